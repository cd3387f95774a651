"""
The numbered files that make the store's tables; only ever added to.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def steps(dialect: str) -> list[str]:
    """
    The SQL that leads from each version to the next; the first makes the first.

    @param dialect: C{sqlite} or C{postgres}
    """
    files = sorted((_HERE / dialect).glob("*.sql"))
    assert [int(file.stem) for file in files] == list(range(1, len(files) + 1))
    return [file.read_text(encoding="utf-8") for file in files]
