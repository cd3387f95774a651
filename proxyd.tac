"""
proxyd for C{twistd -ny proxyd.tac}: the service of C{twistd -n proxyd}, without its options.

The configuration is the file that the variable C{PROXYD_CONFIG} names; without
it, what the search of C{twistd -n proxyd} finds.
"""

from __future__ import annotations

import os

from twisted.application.service import Application

from proxyd.tap import Options, makeService

named = os.environ.get("PROXYD_CONFIG")
options = Options()
options.parseOptions(["--config", named] if named else [])

application = Application("proxyd")
makeService(options).setServiceParent(application)
