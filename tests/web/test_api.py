"""Tests for L{proxyd.web.api}: what holds for every call, over real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from proxyd.records import Conflict, Invalid, StoreError, StoreLost, Unknown
from proxyd.web.answer import ERROR
from proxyd.web.route import Access, Route
from proxyd.web.schema import wrong_with
from tests.web.scene import ADMIN, METRICS, ApiTestCase, Heard


def a_call(route: Route) -> tuple[str, str, Any]:
    """A call of a route with values that fit, for something that is not there."""
    path = route.path
    for name, schema in route.names.items():
        path = path.replace("{" + name + "}", "123456" if schema["type"] == "integer" else "none")
    return route.method, path, None if route.body is None else {}


class AccessTests(ApiTestCase):
    """Who may call."""

    def assert_error(self, heard: Heard, status: int, code: str) -> None:
        """An answer is this error, in the one shape that errors have."""
        self.assertEqual((heard.status, heard.code), (status, code))
        self.assertEqual(heard.headers["content-type"], "application/json")
        self.assertEqual(list(wrong_with(heard.value, ERROR)), [])
        self.assertEqual(heard.value["error"]["status"], status)

    async def test_no_call_without_the_token(self) -> None:
        """Every call but health and metrics is refused without the token, and changes nothing."""
        wrong = [None, "", "x", ADMIN + "x", ADMIN[:-1], METRICS, ADMIN.upper()]
        admin = [route for route in self.routes if route.access is Access.ADMIN]
        self.assertGreaterEqual(len(admin), 11)
        for route in admin:
            method, path, body = a_call(route)
            for token in wrong:
                heard = await self.ask(method, path, body, token=token)
                self.assertEqual(heard.status, 401, (route.key, token))
                self.assertIn("Bearer", heard.headers["www-authenticate"])
            for header in (f"Basic {ADMIN}", ADMIN, f"Bearer{ADMIN}"):
                heard = await self.ask(method, path, body, headers={"Authorization": header})
                self.assertEqual(heard.status, 401, (route.key, header))
        self.assertEqual(self.operations.restarts, 0)
        self.assertEqual(self.sessions.killed, [])
        self.assertEqual((await self.ask("GET", "/api/databases")).value, {"databases": []})

    async def test_every_call_with_the_token(self) -> None:
        """With it, none is refused for want of it; so it is by the UNIX socket without one."""
        for route in self.routes:
            method, path, body = a_call(route)
            for heard in (
                await self.ask(method, path, body),
                await self.ask(method, path, body, token=None, local=True),
            ):
                self.assertNotIn(heard.status, (401, 403, 405, 500), route.key)

    async def test_free_calls(self) -> None:
        """Health needs no token; nor does anything else that a table of ours calls free."""
        free = {route.path for route in self.routes if route.access is Access.FREE}
        self.assertEqual(free, {"/healthz", "/readyz"})
        for path in free:
            self.assertEqual((await self.ask("GET", path, token=None)).status, 200)

    async def test_metrics(self) -> None:
        """Free on loopback, but not for what was passed on from elsewhere: that needs a token."""
        self.assertEqual((await self.ask("GET", "/metrics", token=None)).status, 200)
        passed_on = {"X-Forwarded-For": "192.0.2.1"}
        for token, status in ((None, 401), ("no", 401), (METRICS, 200), (ADMIN, 200)):
            heard = await self.ask("GET", "/metrics", token=token, headers=passed_on)
            self.assertEqual(heard.status, status, token)

    async def test_dns_rebinding(self) -> None:
        """A foreign Host is refused, with the token, too; ours are not."""
        for host in (
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "[::1",
            "",
            "a b",
        ):
            heard = await self.ask("GET", "/metrics", headers={"Host": host})
            self.assertIn(heard.status, (400, 403), host)
        for host in ("localhost", "LOCALHOST:1", f"127.0.0.1:{self.port}", "Proxy.Example.:80"):
            heard = await self.ask("GET", "/metrics", headers={"Host": host})
            self.assertEqual(heard.status, 200, host)

    async def test_origin(self) -> None:
        """A page of another origin may not call, not even what is free."""
        for origin in ("http://evil.example", "null", "https://localhost", "http://localhost:1"):
            headers = {"Host": "localhost", "Origin": origin}
            heard = await self.ask("GET", "/healthz", headers=headers)
            self.assert_error(heard, 403, "wrong_origin")
        headers = {"Host": "localhost:8080", "Origin": "http://localhost:8080"}
        heard = await self.ask("GET", "/healthz", headers=headers)
        self.assertEqual(heard.status, 200)
        self.assertNotIn("access-control-allow-origin", heard.headers)

    async def test_tokens_stay_secret(self) -> None:
        """No token, and nothing of a URL or body, stands in the log, whatever was answered."""
        await self.ask("GET", "/api/tokens?database_id=secret-query", token="secret-guess")
        await self.ask("GET", "/secret-path?x=secret-query")
        await self.ask("POST", "/api/tokens", {"token": "secret-body"})
        await self.ask("POST", "/api/tokens", b'{"token": "secret-body')
        made = await self.ask("POST", "/api/tokens", {"database_id": "orders"})
        dsn = "postgresql://u:secret-body@192.0.2.1/d"
        heard = await self.ask("POST", "/api/databases", {"name": "a", "dsn": dsn})
        self.assertEqual(heard.status, 201)
        logged = self.everything_logged()
        for secret in ("secret-", ADMIN, METRICS, made.value["token"]):
            self.assertNotIn(secret, logged)
        self.assertNotIn(ADMIN, repr(self.api.guard) + repr(self.web))


class AnswerTests(ApiTestCase):
    """What is answered when a call is no call."""

    async def test_unknown_path(self) -> None:
        """404 in JSON; a path is taken as it stands."""
        for path in (
            "/",
            "/nothing",
            "/api",
            "/healthz/",
            "/api/sessions/1/2",
            "/%00",
        ):
            heard = await self.ask("GET", path)
            self.assertEqual((heard.status, heard.code), (404, "not_found"), path)

    async def test_unknown_method(self) -> None:
        """405 in JSON names what may be done, and OPTIONS asks for just that."""
        for method in ("PUT", "PATCH", "TRACE", "BREW", "post"):
            heard = await self.ask(method, "/api/sessions")
            self.assertEqual((heard.status, heard.code), (405, "method_not_allowed"), method)
            self.assertEqual(heard.headers["allow"], "GET, HEAD, OPTIONS")
        heard = await self.ask("OPTIONS", "/api/databases", token=None)
        self.assertEqual((heard.status, heard.body), (204, b""))
        self.assertEqual(heard.headers["allow"], "GET, HEAD, OPTIONS, POST")

    async def test_head(self) -> None:
        """HEAD is GET without the body, and needs the token where GET does."""
        whole = await self.ask("GET", "/api/sessions")
        head = await self.ask("HEAD", "/api/databases")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual((await self.ask("HEAD", "/api/sessions", token=None)).status, 401)
        self.assertGreater(len(whole.body), 2)

    async def test_path_that_is_no_text(self) -> None:
        """Bytes that are not UTF-8 are refused in JSON."""
        for path in ("/%ff", "/api/sessions/%c3%28"):
            heard = await self.ask("GET", path)
            self.assertEqual((heard.status, heard.code), (400, "bad_request"))

    async def test_body_is_json_whatever_its_type(self) -> None:
        """What curl calls a form is JSON; so is what a browser would call parts of one."""
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "text/plain",
            "application/json; charset=latin-1",
        ):
            body = {"database_id": "orders", "label": "é"}
            heard = await self.ask("POST", "/api/tokens", body, headers={"Content-Type": kind})
            self.assertEqual(heard.status, 201, kind)

    async def test_body_that_is_no_json(self) -> None:
        """400 says where, and quotes nothing."""
        for body in (
            b"",
            b"{",
            b"hunter2",
            b'{"a": NaN}',
            b'{"a": 1, "a": 2}',
            b"\xff",
            b"[" * 100_000,
            b'{"a": ' + b"9" * 5000 + b"}",
        ):
            heard = await self.ask("POST", "/api/tokens", body)
            self.assertEqual((heard.status, heard.code), (400, "not_json"), body[:20])
            self.assertNotIn("hunter2", heard.body.decode())

    async def test_values(self) -> None:
        """422 tells every value that is wrong, by its name."""
        heard = await self.ask("POST", "/api/databases", {"name": "", "dsn": 5, "more": 1})
        self.assertEqual((heard.status, heard.code), (422, "invalid"))
        problems = {one["where"]: one["what"] for one in heard.value["error"]["problems"]}
        self.assertEqual(
            problems,
            {
                "name": "must not be empty",
                "dsn": "must be a text, not a whole number",
                "more": "is not known here; known: name, dsn, password",
            },
        )
        for body in ([], "x", None, 5, True):
            heard = await self.ask("POST", "/api/databases", b"null" if body is None else body)
            self.assertEqual(heard.status, 422, body)

    async def test_query(self) -> None:
        """What stands behind the `?` is checked like a body; unknown names are let pass."""
        for query in (
            "limit=x",
            "limit=0",
            "limit=1&limit=2",
            "kind=",
            "user=%00",
            "limit=%ff",
        ):
            heard = await self.ask("GET", f"/api/sessions?{query}")
            self.assertEqual((heard.status, heard.code), (422, "invalid"), query)
        self.assertEqual((await self.ask("GET", "/api/sessions?nothing=1")).status, 200)

    async def test_query_of_a_change(self) -> None:
        """A change that is asked for with a word nobody knows is not made: it meant something."""
        for path in ("/api/tokens/t?isuer=x", "/api/tokens/t?issuer=x&x=", "/api/tokens/t?%ff=1"):
            heard = await self.ask("DELETE", path)
            self.assertEqual((heard.status, heard.code), (422, "invalid"), path)
            self.assertIn("known here: issuer", str(heard.value))
        self.assertEqual((await self.ask("DELETE", "/api/sessions/7?force=1")).status, 422)
        self.assertEqual((await self.ask("GET", "/api/tokens")).value, {"tokens": []})

    async def test_headers(self) -> None:
        """No answer is to be kept or guessed at, and none names the program's parts."""
        for path in ("/healthz", "/nothing", "/api/sessions"):
            heard = await self.ask("GET", path)
            self.assertEqual(heard.headers["cache-control"], "no-store")
            self.assertEqual(heard.headers["x-content-type-options"], "nosniff")
            self.assertEqual(heard.headers["server"], "proxyd")

    async def test_client_that_leaves(self) -> None:
        """What was begun for a client that has left is ended, and audited."""
        waiting = self.operations.restarting = Deferred()
        asking = Deferred.fromCoroutine(self.ask("POST", "/api/docker/proxy/restart"))
        asking.addErrback(lambda _: None)
        await self.until(lambda: self.operations.restarts)
        asking.cancel()
        await self.until(lambda: not self.web.clients())
        self.assertEqual(self.lines("audit"), [])
        waiting.callback(None)
        await self.until(lambda: self.lines("audit"))

    async def test_audit(self) -> None:
        """Each change is one line: what, by whom, which, and whether it was done."""
        await self.ask("GET", "/api/sessions")
        await self.ask("DELETE", "/api/sessions/7")
        await self.ask("DELETE", "/api/sessions/7")
        await self.ask("POST", "/api/databases", {"name": "a", "dsn": "x"}, local=True)
        made = await self.ask("POST", "/api/tokens", {"database_id": "orders"})
        lines = self.lines("audit")
        self.assertEqual(len(lines), 4)
        self.assertRegex(
            lines[0],
            r"^audit: DELETE /api/sessions/\{session_id\} by 127\.0\.0\.1:\d+: 200 done "
            "session_id=7$",
        )
        self.assertIn("404 not_found session_id=7", lines[1])
        self.assertIn("by unix (user ", lines[2])
        self.assertIn(": 422 invalid", lines[2])
        self.assertIn(f"token_id={made.value['token_id']}", lines[3])


class TranslationTests(SynchronousTestCase):
    """What goes wrong below is told by one table."""

    def test_store_errors(self) -> None:
        """Each word of the store's has its status."""
        from proxyd.web.api import _STATUS

        expected = {Unknown: 404, Conflict: 409, Invalid: 422, StoreLost: 503}
        self.assertEqual(dict(_STATUS), expected)
        self.assertEqual(set(StoreError.__subclasses__()), set(expected))
