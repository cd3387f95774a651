"""
A line in the log for each session: as C{Logger.info} would write it, at less than half the cost.
"""

from __future__ import annotations

from twisted.logger import Logger, LogLevel

from proxyd.net.clock import hour

_INFO = LogLevel.info


def tell_info(log: Logger, text: str, **fields: object) -> None:
    """
    Say something at level info: the event is the one that C{log.info(text, **fields)} makes.

    Twisted's C{Logger} sorts all levels there are to see whether C{info} is one.
    """
    fields.update(
        log_logger=log,
        log_level=_INFO,
        log_namespace=log.namespace,
        log_source=log.source,
        log_format=text,
        log_time=hour(),
    )
    log.observer(fields)
