"""Tests for L{proxyd.config.certificate_rule}."""

from __future__ import annotations

from proxyd.config.certificate_rule import OWN_NAME, CertificateRule
from tests.config.reading import ReadingCase

HEAD = """\
postgres: {tls: {client_ca: /ca.pem}}
connections:
  shop:
    dsn: postgresql://svc@h/
    auth: cert
"""


class RuleTests(ReadingCase):
    """Which certificate stands for which user."""

    def test_own_name(self) -> None:
        """Without a map the common name is the user's, letter for letter."""
        (own,) = OWN_NAME
        self.assertTrue(own.lets(["ann"], "ann"))
        for name, user in (("ann", "Ann"), ("ann", "a*"), ("*", "ann"), ("ann\n", "ann")):
            self.assertFalse(own.lets([name], user), (name, user))
        self.assertFalse(own.lets([], "ann"))
        # A name with a pattern in it stands for itself and for nobody else.
        self.assertTrue(own.lets(["a*"], "a*"))

    def test_patterns(self) -> None:
        """As in C{users}: globs on both sides, with case."""
        rule = CertificateRule("cn", "app-*", "shop_*")
        self.assertTrue(rule.lets(["web", "app-1"], "shop_rw"))
        for name, user in (("App-1", "shop_rw"), ("app-1", "Shop_rw"), ("web", "shop_rw")):
            self.assertFalse(rule.lets([name], user), (name, user))

    def test_expressions(self) -> None:
        """As in pg_ident.conf: a slash begins an expression, and its group is the user."""
        rule = CertificateRule("san", r"/^(.+)@shop\.example$", r"\1")
        self.assertTrue(rule.lets(["ann@shop.example"], "ann"))
        for name, user in (
            ("ann@shop.example", "bob"),
            ("ann@shopxexample", "ann"),
            ("*@shop.example", "ann"),
            ("ann@shop.example.evil", "ann"),
        ):
            self.assertFalse(rule.lets([name], user), (name, user))
        several = CertificateRule("cn", "/^(app)-", r"\1_user")
        self.assertTrue(several.lets(["app-7"], "app_user"))
        anybody = CertificateRule("cn", "/admin$", "*")
        self.assertTrue(anybody.lets(["big admin"], "ann"))

    def test_empty_group(self) -> None:
        """A group that matched nothing is an empty name, which nobody has."""
        rule = CertificateRule("cn", "/^x(y)?", r"\1")
        self.assertFalse(rule.lets(["x"], "ann"))


class ReadTests(ReadingCase):
    """The key C{cert_map}."""

    def test_good(self) -> None:
        """One rule or a list of them; absent it is the common name."""
        text = HEAD + "    cert_map: [{cn: app, user: a}, {san: '/^(.*)@x$', user: '\\1'}]\n"
        connection = self.load(text).connections["shop"]
        self.assertEqual(
            connection.cert_map,
            (CertificateRule("cn", "app", "a"), CertificateRule("san", "/^(.*)@x$", "\\1")),
        )
        self.assertEqual(connection.auth, ("cert",))
        self.assertEqual(self.load(HEAD).connections["shop"].cert_map, ())

    def test_refused(self) -> None:
        """Each mistake is told at its place."""
        for rules, problem in {
            "[]": "cert_map: an empty list lets nobody in",
            "[{user: a}]": "cert_map[0]: must have one of cn, dn and san",
            "[{cn: a, dn: b, user: a}]": "cert_map[0]: must have one of cn, dn and san",
            "[{cn: a}]": "cert_map[0]: does not say which user",
            "[{cn: '/(', user: a}]": "cert_map[0].cn: is no regular expression",
            "[{cn: a, user: '\\1'}]": "cert_map[0].user: \\1 is the group of a regular expression",
            "[{cn: '/a', user: '\\1'}]": "cert_map[0].user: \\1 is the group of",
            "[{cn: a, user: a, usr: b}]": "cert_map[0].usr: is not a known key",
            "[a]": "cert_map[0]: must be a mapping",
        }.items():
            told, *_ = self.wrong(f"{HEAD}    cert_map: {rules}\n")
            self.assertIn(f"proxyd.yaml:6: connections.shop.{problem}", told)

    def test_no_ca(self) -> None:
        """Where no client is asked for a certificate, none can be compared."""
        text = HEAD.replace("postgres: {tls: {client_ca: /ca.pem}}\n", "")
        (told,) = self.wrong(text)
        self.assertIn("connections.shop.auth: needs clients' certificates", told)
        text = text.replace("auth: cert", "cert_map: {cn: a, user: a}")
        (told,) = self.wrong(text)
        self.assertIn("connections.shop.cert_map: needs clients' certificates", told)
