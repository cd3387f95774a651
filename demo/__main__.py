"""C{python -m demo}: what C{make run} runs once it has set everything up."""

from __future__ import annotations

import sys

from demo.run import main

sys.exit(main())
