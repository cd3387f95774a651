"""Tests for L{proxyd.config.section}."""

from __future__ import annotations

import textwrap
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from proxyd.config.report import Report
from proxyd.config.section import Section
from proxyd.config.yaml_text import read_yaml


class SectionTests(SynchronousTestCase):
    """Each key as the value asked for; what is wrong goes to the report."""

    def section(self, text: str) -> Section:
        """The section that a YAML text is."""
        self.report = Report("f")
        table = read_yaml(textwrap.dedent(text), self.report)
        return Section(table, "", self.report, {"HOME": "/home/ann"})

    def assert_wrong(self, *problems: str) -> None:
        """Exactly these problems were told."""
        self.assertEqual([str(problem) for problem in self.report.problems], list(problems))

    def test_absent(self) -> None:
        """A key that is absent has its default, and nothing is told."""
        section = self.section("")
        self.assertEqual(section.word("a", ("x",), "x"), "x")
        self.assertEqual(section.count("a", 3, 1, 9), 3)
        self.assertEqual(section.duration("a", 2.0), 2.0)
        for absent in (section.text("a"), section.flag("a"), section.secret("a"),
                       section.file("a"), section.listeners("a"), section.networks("a"),
                       section.section("a"), section.each("a", str)):  # fmt: skip
            self.assertIsNone(absent)
        self.assertFalse(section.has("a"))
        self.assert_wrong()

    def test_right(self) -> None:
        """A key that is right has its value."""
        section = self.section(
            """
            word: x
            flag: false
            count: 9
            time: 1h
            zero: 0s
            file: ~/key
            one: 10.0.0.0/8
            many: [10.0.0.0/8, "::1"]
            listen: 127.0.0.1:1
            secret: file:~/pw
            """
        )
        self.assertEqual(section.word("word", ("x", "y"), "y"), "x")
        self.assertIs(section.flag("flag"), False)
        self.assertEqual(section.count("count", 3, 1, 9), 9)
        self.assertEqual(section.duration("time", 1.0), 3600.0)
        self.assertEqual(section.duration("zero", 1.0, zero=True), 0.0)
        self.assertEqual(section.file("file"), "/home/ann/key")
        self.assertEqual(section.networks("one"), (ip_network("10.0.0.0/8"),))
        self.assertEqual(section.networks("many"), (ip_network("10.0.0.0/8"), ip_network("::1")))
        listen = section.listeners("listen")
        self.assertEqual([place.port for place in listen or ()], [1])
        secret = section.secret("secret")
        self.assertEqual(secret and secret.place, "file:/home/ann/pw")
        section.close()
        self.assert_wrong()

    def test_wrong_types(self) -> None:
        """Each wrong type is told by what must be there and what is; a value is not quoted."""
        section = self.section(
            """
            text: 5
            secret: 12345
            nothing:
            empty: ""
            list: [a]
            count: "5"
            bool: true
            fraction: 1.5
            flag: yes
            time: 30
            section: text
            """
        )
        for name in ("text", "nothing", "empty", "list"):
            self.assertIsNone(section.text(name))
        self.assertIsNone(section.secret("secret"))
        for name in ("count", "bool", "fraction"):
            self.assertEqual(section.count(name, 3, 1, 9), 3)
        self.assertIsNone(section.flag("flag"))
        self.assertEqual(section.duration("time", 1.0), 1.0)
        self.assertIsNone(section.section("section"))
        self.assert_wrong(
            "f:2: text: must be text, not a number: write it in quotes",
            "f:3: secret: must be text, not a number: write it in quotes",
            "f:4: nothing: must be text, not nothing",
            "f:5: empty: must not be empty",
            "f:6: list: must be text, not a list",
            "f:7: count: must be a whole number, not text",
            "f:8: bool: must be a whole number, not true or false",
            "f:9: fraction: must be a whole number, not a number",
            "f:10: flag: must be true or false, not text",
            "f:11: time: 30 has no unit: 30s, 14m, 1h and 730d are durations",
            "f:12: section: must be a mapping of keys to values, not text",
        )

    def test_wrong_values(self) -> None:
        """Values out of bounds are told, and the default goes on."""
        section = self.section(
            """
            count: 10
            time: 0s
            word: z
            secret: "env:"
            listen: []
            """
        )
        self.assertEqual(section.count("count", 3, 1, 9), 3)
        self.assertEqual(section.duration("time", 1.0), 1.0)
        self.assertEqual(section.word("word", ("x", "y"), "x"), "x")
        self.assertIsNone(section.secret("secret"))
        self.assertIsNone(section.listeners("listen"))
        self.assert_wrong(
            "f:2: count: must be from 1 to 9, not 10",
            "f:3: time: must be more than no time",
            "f:4: word: z is not one of x, y",
            "f:5: secret: env: names no variable",
            "f:6: listen: names no listener",
        )

    def test_lists(self) -> None:
        """An item of a list is told by its place and line; one wrong item spoils the list."""
        section = self.section("nets:\n  - 10.0.0.0/8\n  - nowhere\n  - 5\n")
        self.assertIsNone(section.networks("nets"))
        self.assert_wrong(
            "f:3: nets[1]: nowhere is not an address or a CIDR block (10.0.0.0/8)",
            "f:4: nets[2]: must be text, not a number: write it in quotes",
        )

    def test_host_bits(self) -> None:
        """Host bits are masked, with a warning."""
        section = self.section("nets: [10.1.2.3/8]")
        self.assertEqual(section.networks("nets"), (ip_network("10.0.0.0/8"),))
        self.assertEqual(
            [str(one) for one in self.report.warnings],
            ["f:1: nets: 10.1.2.3/8 has host bits: it means 10.0.0.0/8"],
        )

    def test_listeners_twice(self) -> None:
        """One place can't be listened on twice; any free port can."""
        section = self.section("a: ['127.0.0.1:1', '127.0.0.1:1']\nb: ['[::1]:0', '[::1]:0']")
        section.listeners("a")
        section.listeners("b")
        self.assert_wrong("f:1: a: 127.0.0.1:1 is named twice")

    def test_unknown_keys(self) -> None:
        """What nobody asked for is told, with what may have been meant."""
        section = self.section("lisen: 1\nxyz: 2\nlater: 3")
        section.text("listen")
        section.close(also=("later",))
        self.assert_wrong(
            "f:1: lisen: is not a known key; did you mean listen?",
            "f:2: xyz: is not a known key",
        )

    def test_below(self) -> None:
        """A section below has its own path; one without keys is there; one absent is not."""
        section = self.section("a:\n  b:\n    c: z\nempty:\n")
        below = section.section("a")
        assert below is not None
        deeper = below.section("b")
        assert deeper is not None
        deeper.word("c", ("x",), "x")
        deeper.wrong("", "x")
        self.assert_wrong("f:2: a.b: x", "f:3: a.b.c: z is not one of x")
        self.assertIsNotNone(section.section("empty"))

    def test_keys(self) -> None:
        """Asking for all keys makes all of them known."""
        section = self.section("b: 1\na: 2")
        self.assertEqual(section.keys(), ("b", "a"))
        section.close()
        self.assert_wrong()

    def test_not_yet(self) -> None:
        """A key for later is told by its line."""
        self.section("\nvia: x").not_yet("via")
        self.assertEqual(
            [str(one) for one in self.report.later], ["f:2: via: not in this version yet"]
        )
