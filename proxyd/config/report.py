"""
What a reading of a configuration has found out so far, beside its values.

Every part of the loader tells one L{Report}; none of them stops at the first
thing that is wrong.
"""

from __future__ import annotations

from proxyd.errors import Problem

NOT_YET = "not in this version yet"
"""What is said of a key that is known by name only."""


class Report:
    """
    The problems, the keys for later and the warnings of one configuration.

    @param file: how the configuration's file is called in them
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._problems: list[Problem] = []
        self._later: list[Problem] = []
        self._warnings: list[Problem] = []

    def wrong(self, key: str, what: str, line: int | None = None, file: str | None = None) -> None:
        """Something makes the configuration unusable."""
        self._problems.append(Problem(self.file if file is None else file, line, key, what))

    def not_yet(self, key: str, line: int | None = None, about: str = "") -> None:
        """A key is right but waits for a later version; C{about} says which value of it."""
        what = f"{about}: {NOT_YET}" if about else NOT_YET
        self._later.append(Problem(self.file, line, key, what))

    def warn(self, key: str, what: str, line: int | None = None, file: str | None = None) -> None:
        """Something works, but should be looked at."""
        self._warnings.append(Problem(self.file if file is None else file, line, key, what))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All that is wrong, in the order of the file; what stands in no line comes last."""
        return self._ordered(self._problems)

    @property
    def later(self) -> tuple[Problem, ...]:
        """All keys that wait for a later version, in the order of the file."""
        return self._ordered(self._later)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """All warnings, in the order of the file."""
        return self._ordered(self._warnings)

    def _ordered(self, problems: list[Problem]) -> tuple[Problem, ...]:
        def place(problem: Problem) -> tuple[bool, str, bool, int]:
            elsewhere = problem.file != self.file
            unplaced = problem.line is None
            return elsewhere, problem.file if elsewhere else "", unplaced, problem.line or 0

        return tuple(sorted(dict.fromkeys(problems), key=place))
