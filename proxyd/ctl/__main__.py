"""C{python -m proxyd.ctl}: proxyctl where no console script is installed."""

from __future__ import annotations

from proxyd.ctl.main import main

if __name__ == "__main__":
    main()
