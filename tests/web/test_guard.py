"""Tests for L{proxyd.web.guard}: who may call, by headers and addresses alone."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.answer import ApiError
from proxyd.web.guard import Guard, Visit
from proxyd.web.route import Access

ADMIN = "the-admin-token-itself"


def visit(
    local: bool = False,
    peer: str = "192.0.2.9",
    here: str = "192.0.2.1",
    secure: bool = False,
    **headers: str | list[str],
) -> Visit:
    """A request with these headers; C{x_y} is the header C{x-y}."""
    lines = {
        name.replace("_", "-"): [value] if isinstance(value, str) else value
        for name, value in headers.items()
    }
    return Visit(local, peer, here, secure, lines)


class GuardCase(SynchronousTestCase):
    """A guard with two tokens and a name."""

    def setUp(self) -> None:
        self.guard = Guard(ADMIN, "the-metrics-token", ["proxy.example", "fd00::1"])

    def status(self, seen: Visit, access: Access | None = None) -> int:
        """By which status a request is refused; 200: it is not."""
        try:
            if access is None:
                self.guard.check_origin(seen)
            else:
                self.guard.check_access(seen, access)
        except ApiError as error:
            return error.status
        return 200


class OriginTests(GuardCase):
    """What a browser was tricked into."""

    def test_our_names(self) -> None:
        """The address that was called, localhost and the configured names, with any port."""
        for host in (
            *("192.0.2.1", "192.0.2.1:8080", "localhost:9", "LocalHost", "proxy.example:1"),
            *("PROXY.example.", "[fd00::1]:8080", "[FD00:0::1]"),
        ):
            self.assertEqual(self.status(visit(host=host)), 200, host)

    def test_other_names(self) -> None:
        """Any other is refused: an address that is not the one called, too."""
        for host in (
            *("evil.example", "192.0.2.2", "127.0.0.1", "proxy.example.evil.com", "fd00::1"),
            *("[fd00::1", "[fd00::1]x", "localhost:x", "", ":80", "localhost@evil.example"),
        ):
            self.assertEqual(self.status(visit(host=host)), 403, host)

    def test_mapped_address(self) -> None:
        """A client of a dual-stack socket calls us by our IPv4 address."""
        self.assertEqual(self.status(visit(here="::ffff:192.0.2.1", host="192.0.2.1")), 200)
        self.assertEqual(self.status(visit(here="fe80::1%eth0", host="[fe80::1]")), 200)

    def test_one_host(self) -> None:
        """None, or two of which a proxy before us may have looked at the other, are refused."""
        self.assertEqual(self.status(visit()), 400)
        self.assertEqual(self.status(visit(host=["localhost", "localhost"])), 400)

    def test_origin(self) -> None:
        """Only pages of ours may call, by the scheme that they came by."""
        self.assertEqual(self.status(visit(host="localhost:8", origin="http://localhost:8")), 200)
        self.assertEqual(self.status(visit(host="localhost", origin="HTTP://LOCALHOST")), 200)
        secure = visit(secure=True, host="localhost", origin="https://localhost")
        self.assertEqual(self.status(secure), 200)
        for origin in (
            "null",
            "",
            "http://evil.example",
            "https://localhost:8",
            "http://localhost",
        ):
            seen = visit(host="localhost:8", origin=origin)
            self.assertEqual(self.status(seen), 403, origin)

    def test_unix_socket(self) -> None:
        """No browser gets there: what curl makes up as a Host does not matter."""
        self.assertEqual(self.status(visit(local=True, peer="", here="", host="x")), 200)


class AccessTests(GuardCase):
    """Who says who they are."""

    def test_admin(self) -> None:
        """The token, the whole token, and nothing but the token."""
        for header, status in (
            (f"Bearer {ADMIN}", 200),
            (f"bearer  {ADMIN} ", 200),
            (f"Bearer {ADMIN[:-1]}", 401),
            (f"Bearer {ADMIN}é", 401),
            (f"Basic {ADMIN}", 401),
            ("Bearer", 401),
            ("Bearer ", 401),
            ("", 401),
            ("Bearer the-metrics-token", 401),
        ):
            seen = visit(authorization=header)
            self.assertEqual(self.status(seen, Access.ADMIN), status, header)
        self.assertEqual(self.status(visit(), Access.ADMIN), 401)

    def test_local(self) -> None:
        """The UNIX socket's users are known: they need no token."""
        self.assertEqual(self.status(visit(local=True, peer=""), Access.ADMIN), 200)

    def test_unix_listener(self) -> None:
        """A UNIX socket that anybody may open is not that: it needs the token."""
        self.assertEqual(self.status(visit(peer=""), Access.ADMIN), 401)
        self.assertEqual(self.status(visit(peer=""), Access.METRICS), 200)

    def test_metrics(self) -> None:
        """From this machine they are free, unless somebody passed the request on."""
        for peer, status in (("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200)):
            self.assertEqual(self.status(visit(peer=peer), Access.METRICS), status, peer)
        self.assertEqual(self.status(visit(), Access.METRICS), 401)
        passed_on = visit(peer="127.0.0.1", forwarded="for=192.0.2.9")
        self.assertEqual(self.status(passed_on, Access.METRICS), 401)
        seen = visit(authorization="Bearer the-metrics-token")
        self.assertEqual(self.status(seen, Access.METRICS), 200)
        seen = visit(authorization=f"Bearer {ADMIN}")
        self.assertEqual(self.status(seen, Access.METRICS), 200)

    def test_secrets(self) -> None:
        """Neither token nor headers stand in a repr."""
        shown = repr(self.guard) + repr(visit(authorization=f"Bearer {ADMIN}"))
        self.assertNotIn(ADMIN, shown)
