"""Client programs run to their end, with a deadline and with words of their own when they fail."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """A program that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def run(
    command: Sequence[object],
    environment: Mapping[str, str],
    *,
    given: str = "",
    good: bool = True,
    seconds: float = SECONDS,
) -> Done:
    """
    Run a program.

    @param given: its standard input
    @param good: whether it has to end with 0
    @raise AssertionError: it fails, or does not end in time; with what it wrote
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=dict(environment),
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command} did not end: {error.stderr!r}") from None
    if good and done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stderr}")
    return Done(done.returncode, done.stdout, done.stderr)


def piped(
    first: Sequence[object],
    first_environment: Mapping[str, str],
    second: Sequence[object],
    second_environment: Mapping[str, str],
    *,
    seconds: float = SECONDS,
) -> None:
    """
    Run two programs, the output of the first the input of the second.

    @raise AssertionError: one of them fails; with what it wrote
    """
    source = subprocess.Popen(
        [str(word) for word in first],
        env=dict(first_environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        sink = subprocess.run(
            [str(word) for word in second],
            env=dict(second_environment),
            stdin=source.stdout,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        words = source.communicate(timeout=seconds)[1].decode(errors="replace")
    finally:
        source.kill()
        source.wait()
    if source.returncode or sink.returncode:
        raise AssertionError(f"{source.returncode}: {words}\n{sink.returncode}: {sink.stderr}")
