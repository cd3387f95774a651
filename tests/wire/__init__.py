"""
The machines of C{proxyd.wire}, bytes in and events out.

hypothesis measures no time here: a busy machine must not fail a test. What it
finds it prints with the means to see it again.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("wire", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wire")
