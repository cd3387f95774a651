"""
Numbers that proxyd tells of itself, as each room knows them.

How they are told (Prometheus) is the business of C{proxyd.web.metrics}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """
    One number, now.

    @param name: without the prefix C{proxyd_}, in Prometheus's style: C{pool_connections};
        the same name always has the same kind, words and names of labels
    @param about: what it counts, for people
    @param value: in base units: seconds, bytes
    @param labels: what it is of; never a user, a client's address, or anything
        else of which there may be any number
    @param only_grows: a counter, which starts at nought with the process
    """

    name: str
    about: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    only_grows: bool = False
