"""
Tests of L{proxyd.config.tokens}.
"""

from __future__ import annotations

from proxyd.config.token_settings import TokenSettings
from tests.config.reading import ReadingCase

ISSUER = "tokens:\n  issuers:\n    - {issuer: I, audience: A, jwks_url: 'https://id.example/k'"


class TokensTests(ReadingCase):
    """The section tokens."""

    def test_absent(self) -> None:
        """Two years, and our own secret."""
        tokens = self.load("").tokens
        self.assertEqual(tokens, TokenSettings())
        self.assertEqual((tokens.ttl, tokens.max_staleness), (730 * 86400.0, 5.0))
        self.assertEqual(tokens.when_store_lost, "refuse_new")

    def test_all(self) -> None:
        """Every key."""
        tokens = self.load(
            """
            tokens:
              secret: file:/k
              previous_secrets: [file:/old, "an old one"]
              ttl: 1d
              max_staleness: 9s
              when_store_lost: keep
              issuers:
                - issuer: https://id.example
                  audience: [proxyd, other]
                  jwks_url: https://id.example/keys
                  algorithms: ES256
                  database_claim: db
                  role_claim: roles
                  ca: ~/ca.pem
            """,
            {"HOME": "/h"},
        ).tokens
        assert tokens.secret is not None
        self.assertEqual(tokens.secret.place, "file:/k")
        self.assertEqual([one.place for one in tokens.previous], ["file:/old", "the configuration"])
        self.assertEqual((tokens.ttl, tokens.max_staleness), (86400.0, 9.0))
        self.assertEqual(tokens.when_store_lost, "keep")
        [issuer] = tokens.issuers
        self.assertEqual(issuer.audience, ("proxyd", "other"))
        self.assertEqual(issuer.algorithms, ("ES256",))
        self.assertEqual((issuer.database_claim, issuer.role_claim), ("db", "roles"))
        self.assertEqual(issuer.ca, "/h/ca.pem")

    def test_from_environment(self) -> None:
        """JWT_SECRET is the secret where the file names none."""
        environment = {"JWT_SECRET": "x" * 32}
        for text in ("", "tokens: {ttl: 1d}"):
            secret = self.load(text, environment).tokens.secret
            assert secret is not None
            self.assertEqual(secret.read(), "x" * 32)
        named = self.load("tokens: {secret: file:/k}", environment).tokens.secret
        assert named is not None
        self.assertEqual(named.place, "file:/k")

    def test_short_secret(self) -> None:
        """A secret that could be guessed is warned of, and not shown."""
        [warning] = self.load("tokens: {secret: hunter2}").warnings
        self.assertIn("tokens.secret: is shorter than 32 bytes", str(warning))
        self.assertNotIn("hunter2", str(warning))

    def test_wrong(self) -> None:
        """Each mistake in its line."""
        for text, what in (
            ("tokens: {ttl: 100ms}", "tokens.ttl: must be a second at least"),
            ("tokens: {when_store_lost: panic}", "tokens.when_store_lost: panic is not one of"),
            ("tokens: {secrets: x}", "tokens.secrets: is not a known key"),
            (ISSUER + ", algorithms: [HS256]}", "HS256 is not one of RS256, ES256, EdDSA"),
            (ISSUER + ", algorithms: [none]}", "none is not one of"),
            (ISSUER + ", algorithms: []}", "an empty list takes no token"),
            (ISSUER + ", audiences: x}", "audiences: is not a known key"),
            ("tokens: {issuers: [{issuer: I}]}", "audience: must be given"),
            ("tokens: {issuers: [{issuer: I}]}", "jwks_url: must be given"),
            (ISSUER.replace("https:", "http:") + "}", "must be https: over http anybody"),
            (ISSUER.replace("https:", "ftp:") + "}", "must be an https:// URL"),
            (ISSUER.replace("id.", "u@id.") + "}", "must be an https:// URL"),
            (ISSUER.replace("example/", "example:99999/") + "}", "names no host and port"),
            (ISSUER.replace("example/", "example:0/") + "}", "names no host and port"),
            (ISSUER.replace("id.example", "[::1") + "}", "names no host and port"),
            (ISSUER.replace("id.example", "-.-") + "}", "names no host and port"),
            (ISSUER.replace("id.example", "") + "}", "names no host and port"),
            (ISSUER.replace("example", "ex\u00e4mple") + "}", "must be ASCII"),
            (ISSUER.replace("/k", "/k k") + "}", "must be ASCII without spaces"),
            ("tokens: {max_staleness: 999ms}", "the store is looked at every 0.4 s"),
            ('tokens: {previous_secrets: ["env:"]}', "env: names no variable"),
            ('tokens: {previous_secrets: "file:"}', "is not a path"),
            (
                ISSUER + "}\n    - {issuer: I, audience: A, jwks_url: 'https://x/k'}",
                "I is named twice",
            ),
        ):
            self.assertIn(what, "\n".join(self.wrong(text)), text)

    def test_loopback(self) -> None:
        """From this machine itself keys may come by http."""
        for host in ("127.0.0.1:8080", "[::1]", "localhost"):
            text = ISSUER.replace("https://id.example", f"http://{host}") + "}"
            self.assertEqual(len(self.load(text).tokens.issuers), 1)
