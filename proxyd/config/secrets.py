"""
Secrets as the configuration names them: a plain string, C{env:NAME} or C{file:PATH}.

A L{Secret} is read when it is needed, so that a check of a configuration
needs neither the environment nor the files of the machine it will run on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from proxyd.errors import StartError


class Secret:
    """
    A secret of the configuration, which no C{repr}, C{str} or traceback shows.

    @param source: what stood in the configuration
    @param environment: where C{env:NAME} is looked up
    @param literal: the text is the secret itself, whatever it starts with, as
        a password inside a connection string is
    """

    __slots__ = ("_environment", "_literal", "_source")

    def __init__(
        self,
        source: str,
        environment: Mapping[str, str] | None = None,
        *,
        literal: bool = False,
    ) -> None:
        self._source = source
        self._environment = os.environ if environment is None else environment
        self._literal = literal or not source.startswith(("env:", "file:"))

    def __repr__(self) -> str:
        return "<Secret>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Secret)
            and other._source == self._source
            and other._literal == self._literal
        )

    def __hash__(self) -> int:
        return hash(self._source)

    @property
    def place(self) -> str:
        """Where the secret is kept, in words that don't tell it."""
        return "the configuration" if self._literal else self._source

    @property
    def file(self) -> str | None:
        """The path of the file that holds the secret, C{~} expanded; None: it is in no file."""
        if self._literal or not self._source.startswith("file:"):
            return None
        return os.path.expanduser(self._source[5:])

    def read(self) -> str:
        """
        The secret's text; one newline at the end of a file is left out.

        @raise StartError: the variable is not set or the file can't be read
        """
        if self._literal:
            return self._source
        if self._source.startswith("env:"):
            name = self._source[4:]
            try:
                return self._environment[name]
            except KeyError:
                raise StartError(
                    f"variable {name} is not set: set it, or change {self.place}"
                ) from None
        path = os.path.expanduser(self._source[5:])
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise StartError(f"secret file {path}: {reason}") from None
        return text.removesuffix("\n").removesuffix("\r")
