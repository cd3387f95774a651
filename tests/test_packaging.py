"""
What people install: a wheel, or the checkout itself, gives C{twistd proxyd} and C{proxyctl}.

Nothing is downloaded: the new environments are empty but for a path entry
that lends them the libraries installed beside these tests, and proxyd is
installed into them without its dependencies. The entries that lend come last
and their own path files are not read, so that the proxyd that is found is the
one just installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from twisted.trial.unittest import TestCase

CHECKOUT = Path(__file__).resolve().parent.parent
SECONDS = 120.0
TWISTD = ["-c", "from twisted.scripts.twistd import run; run()"]
SHIPPED = (
    "proxyd",
    "twisted",
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "LICENSE",
    "README.md",
)


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with nothing of the checkout on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


class InstallTests(TestCase):
    """proxyd can be installed, and is then found by twistd and by the shell."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.source = self.folder / "source"
        self.source.mkdir(parents=True)
        leave = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info")
        for name in SHIPPED:
            if (CHECKOUT / name).is_dir():
                shutil.copytree(CHECKOUT / name, self.source / name, ignore=leave)
            else:
                shutil.copy(CHECKOUT / name, self.source / name)

    def must(self, *command: str | Path) -> str:
        """Run a command that has to succeed, and give what it prints."""
        done = run(*command, folder=self.folder)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def empty_environment(self) -> Path:
        """A new virtual environment that borrows our libraries; its C{bin} folder."""
        place = self.folder / "environment"
        self.must(sys.executable, "-m", "venv", "--without-pip", place)
        python = place / "bin" / "python"
        purelib = self.must(
            python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
        ).strip()
        lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (Path(purelib) / "lent.pth").write_text("".join(f"{path}\n" for path in sorted(lent)))
        return place / "bin"

    def install(self, programs: Path, *what: str | Path) -> None:
        """Install into an environment, from what is here only."""
        self.must(
            sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet",
            "--no-deps", "--no-index", "--no-build-isolation", *what,
        )  # fmt: skip

    def build_wheel(self) -> Path:
        """A wheel of the checkout."""
        self.must(
            sys.executable, "-m", "build", "--wheel", "--no-isolation",
            "--outdir", self.folder / "dist", self.source,
        )  # fmt: skip
        (wheel,) = (self.folder / "dist").glob("*.whl")
        return wheel

    def assert_installed(self, programs: Path, below: Path) -> None:
        """What was installed is found, and it is the one below this folder."""
        where = self.must(programs / "python", "-c", "import proxyd; print(proxyd.__file__)")
        self.assertTrue(Path(where.strip()).is_relative_to(below.resolve()), where)
        listed = self.must(programs / "python", *TWISTD, "--help")
        self.assertRegex(listed, r"(?m)^ +proxyd +\S")
        self.assertIn("--config", self.must(programs / "python", *TWISTD, "proxyd", "--help"))
        self.assertIn("Usage", self.must(programs / "proxyctl", "--help"))

    def test_wheel(self) -> None:
        """A wheel in an empty environment gives twistd its proxyd, and the shell proxyctl."""
        wheel = self.build_wheel()
        programs = self.empty_environment()
        self.install(programs, wheel)
        self.assert_installed(programs, programs.parent)

    def test_editable(self) -> None:
        """So does an editable install; the plugin is found where it is."""
        programs = self.empty_environment()
        self.install(programs, "--editable", self.source)
        self.assert_installed(programs, self.source)

    def test_wheel_has_ours_only(self) -> None:
        """The wheel carries proxyd and one file for Twisted's folder: no test, demo or cache."""
        with zipfile.ZipFile(self.build_wheel()) as wheel:
            names = wheel.namelist()
        tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        self.assertEqual(tops, {"proxyd", "twisted"})
        plugged = [name for name in names if name.startswith("twisted/")]
        self.assertEqual(plugged, ["twisted/plugins/proxyd_plugin.py"])
        modules = {
            str(file.relative_to(self.source))
            for kind in ("*.py", "*.sql")
            for file in (self.source / "proxyd").rglob(kind)
        }
        self.assertEqual(modules - set(names), set())
