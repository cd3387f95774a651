"""Tests for L{proxyd.config.search}."""

from __future__ import annotations

from pathlib import Path

from proxyd.config.search import Found, dotenv_beside, find
from proxyd.errors import ConfigError
from tests.config.reading import ReadingCase


class SearchTests(ReadingCase):
    """Where the configuration is looked for, in which order."""

    def setUp(self) -> None:
        """A machine with a working directory, a home and a system folder, all empty."""
        self.root = self.folder()
        for name in ("work", "home", "system"):
            (self.root / name).mkdir()

    def find(self, explicit: str | None = None, **environment: str) -> Found:
        """Search this machine."""
        return find(
            explicit,
            directory=str(self.root / "work"),
            environment=environment,
            home=str(self.root / "home"),
            system=str(self.root / "system"),
        )

    def write(self, name: str) -> Path:
        """A file of this machine."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        return path

    def test_order(self) -> None:
        """Each place wins over all that come after it, and the sentence names it."""
        places = (
            "work/proxyd.yaml",
            "work/proxyd.yml",
            "work/proxyd.toml",
            "work/config.yaml",
            "work/config.yml",
            "work/config.toml",
            "home/.config/proxyd/config.yaml",
            "home/.config/proxyd/config.toml",
            "home/.config/session-proxy/config.yaml",
            "home/.config/session-proxy/config.toml",
            "system/proxyd.yaml",
            "system/proxyd.toml",
        )
        for place in reversed(places):
            path = str(self.write(place))
            self.assertEqual(self.find(), Found(path, f"configuration: {path}"))

    def test_xdg(self) -> None:
        """XDG_CONFIG_HOME stands in for ~/.config, unless it is relative."""
        usual = self.write("home/.config/proxyd/config.yaml")
        other = self.write("xdg/session-proxy/config.yaml")
        folder = str((self.root / "xdg").resolve())
        self.assertEqual(Path(self.find(XDG_CONFIG_HOME=folder).path or "").resolve(),
                         other.resolve())  # fmt: skip
        self.assertEqual(self.find(XDG_CONFIG_HOME="xdg").path, str(usual))
        self.assertEqual(self.find(XDG_CONFIG_HOME="").path, str(usual))

    def test_explicit(self) -> None:
        """The file that was named, whatever else there is; if it is missing, that is told."""
        self.write("work/proxyd.yaml")
        named = str(self.write("elsewhere.yaml"))
        self.assertEqual(self.find(named).path, named)
        error = self.assertRaises(ConfigError, self.find, "no-such.yaml")
        self.assertEqual(str(error), "no-such.yaml: there is no such file")

    def test_file_before_variables(self) -> None:
        """A file wins over the variables."""
        path = self.write("system/proxyd.yaml")
        self.assertEqual(self.find(GPRXY_USER="svc").path, str(path))

    def test_environment(self) -> None:
        """Without a file, a variable is enough: in the process, or in ./.env."""
        self.assertEqual(
            self.find(GPRXY_USER="svc", PROXY_PORT="7"),
            Found(None, "configuration: from the environment (GPRXY_USER, PROXY_PORT)"),
        )
        path = self.root / "work" / ".env"
        path.write_text("DB_HOST=db\n")
        self.assertEqual(
            self.find(PROXY_PORT="7").sentence,
            f"configuration: from {path} and the environment (DB_HOST, PROXY_PORT)",
        )

    def test_nothing(self) -> None:
        """With nothing, one line says where it looked and how to make a file."""
        error = self.assertRaises(ConfigError, self.find, HOME="/", GPRXY_USER="")
        text = str(error)
        self.assertNotIn("\n", text)
        for part in ("work/proxyd.yaml", "work/config.yaml", "home/.config/proxyd/config.yaml",
                     "session-proxy/config.yaml", "system/proxyd.yaml", "work/.env",
                     "`proxyctl init`"):  # fmt: skip
            self.assertIn(part, text)

    def test_broken_dotenv(self) -> None:
        """A .env that can't be read is told, not passed over."""
        (self.root / "work" / ".env").write_text("what?")
        self.assertIn(".env:1: ", str(self.assertRaises(ConfigError, self.find)))

    def test_dotenv(self) -> None:
        """The .env is beside the file, or in the directory."""
        self.assertEqual(dotenv_beside("/etc/x.yaml", "/w"), "/etc/.env")
        self.assertEqual(dotenv_beside("x.yaml", "/w"), "./.env")
        self.assertEqual(dotenv_beside(None, "/w"), "/w/.env")
