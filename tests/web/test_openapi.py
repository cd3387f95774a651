"""
Tests for L{proxyd.web.openapi}: the description and the API say the same.

The calls themselves are tried with values made by their own schemas, good and
bad ones: whatever comes, no answer is 500, and each is as described.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from proxyd.web.answer import ERROR
from proxyd.web.openapi import described
from proxyd.web.route import Route
from proxyd.web.schema import KNOWN, Schema, parse, wrong_with
from tests.web.made_values import Maker
from tests.web.scene import ApiTestCase, Heard

NAME, WITHIN = re.compile(r"<(?:any_text:)?(\w+)>"), r"{\1}"
"""A name in a path as the router has it, and as the description does."""

ROUNDS = 60
LONG_ROUNDS = 1000
GOOD = {
    "POST /api/tokens": b'{"database_id": "orders", "label": "%"}',
    "POST /api/databases": b'{"name": "made %", "dsn": "postgresql://u:p@192.0.2.1/d"}',
}
"""Bodies that are good, so that there is something to list and to remove."""


def schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every schema of a document, those inside others too."""
    if isinstance(value, dict):
        if "type" in value or "anyOf" in value or "enum" in value:
            yield value
        for name, below in value.items():
            if name == "properties":
                for one in below.values():
                    yield from schemas_in(one)
            elif name not in ("examples", "securitySchemes"):
                yield from schemas_in(below)
    elif isinstance(value, list):
        for below in value:
            yield from schemas_in(below)


class DescriptionTests(ApiTestCase):
    """C{/openapi.json}."""

    async def test_same_routes(self) -> None:
        """Each call that is served is described, and no other: both come from one table."""
        document = (await self.ask("GET", "/openapi.json")).value
        found = {
            f"{method.upper()} {path}"
            for path, methods in document["paths"].items()
            for method in methods
        }
        self.assertEqual(found, {route.key for route in self.routes})
        # What the router itself knows: nothing was added to it by another way.
        rules = {
            f"{method} {NAME.sub(WITHIN, rule.rule)}"
            for rule in self.api.rules()
            for method in rule.methods - {"HEAD"}
        }
        self.assertEqual(found, rules)

    async def test_contract(self) -> None:
        """The calls that users know by name are all there."""
        paths = (await self.ask("GET", "/openapi.json")).value["paths"]
        for path, methods in {
            "/healthz": {"get"},
            "/readyz": {"get"},
            "/metrics": {"get"},
            "/openapi.json": {"get"},
            "/api/docker/proxy": {"get"},
            "/api/docker/proxy/restart": {"post"},
            "/api/databases": {"get", "post"},
            "/api/databases/{database_id}": {"delete"},
            "/api/tokens": {"get", "post"},
            "/api/tokens/{token_id}": {"delete"},
            "/api/sessions": {"get"},
            "/api/sessions/{session_id}": {"delete"},
        }.items():
            self.assertEqual(set(paths[path]), methods, path)

    async def test_sound(self) -> None:
        """It is OpenAPI 3.1: names are unique, paths' names are parameters, references lead on."""
        document = (await self.ask("GET", "/openapi.json")).value
        self.assertEqual(document["openapi"], "3.1.0")
        operations = [
            (path, operation)
            for path, methods in document["paths"].items()
            for operation in methods.values()
        ]
        names = [operation["operationId"] for _, operation in operations]
        self.assertEqual(len(names), len(set(names)))
        for path, operation in operations:
            named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            self.assertEqual(named, {part[1:-1] for part in path.split("/") if part[:1] == "{"})
            self.assertTrue(any(status.startswith("2") for status in operation["responses"]))
        self.assertEqual(document["components"]["schemas"]["Error"], json.loads(json.dumps(ERROR)))

    async def test_words(self) -> None:
        """No schema has a word that is not followed when a value is checked."""
        document = described(self.routes)
        unknown = {
            word for schema in schemas_in(document["paths"]) for word in schema if word not in KNOWN
        }
        self.assertEqual(unknown, set())


class GeneratedTests(ApiTestCase):
    """Calls made up from the description."""

    timeout = 600

    async def test_no_surprise(self) -> None:
        """Whatever is sent: never 500, and always an answer that the description knows."""
        seed = int(os.environ.get("PROXYD_SEED", random.SystemRandom().getrandbits(32)))
        rounds = LONG_ROUNDS if os.environ.get("PROXYD_SOAK") else ROUNDS
        self.maker = Maker(random.Random(seed))
        seen: dict[str, set[int]] = {}
        for number in range(rounds):
            for route in self.routes:
                heard, sent = await self.call(route, number)
                where = f"PROXYD_SEED={seed}, round {number}: {route.key} {sent!r}"
                self.assert_described(route, heard, where)
                seen.setdefault(route.key, set()).add(heard.status)
        # The generator is worth nothing if all it makes is refused.
        for key in ("POST /api/tokens", "POST /api/databases", "GET /api/sessions"):
            self.assertTrue({200, 201} & seen[key], f"PROXYD_SEED={seed}: {key} {seen[key]}")
            self.assertIn(422, seen[key], f"PROXYD_SEED={seed}")

    async def call(self, route: Route, number: int) -> tuple[Heard, Any]:
        """Make a call with values that are good, a little wrong, or nonsense."""
        if number % 10 == 0 and route.key in GOOD:
            body = GOOD[route.key].replace(b"%", b"%d" % number)
            return await self.ask(route.method, route.path, body), body
        maker = self.maker
        path = route.path
        for name, schema in route.names.items():
            value = await self.known(name) if maker.random.random() < 0.3 else maker.value(schema)
            path = path.replace("{" + name + "}", quote(maker.as_text(value), safe=""))
        query = {
            name: maker.as_text(maker.value(schema))
            for name, schema in route.query.items()
            if maker.random.random() < 0.5
        }
        if query:
            path += "?" + "&".join(f"{name}={quote(text)}" for name, text in query.items())
        made: bytes | None = None
        if route.body is not None:
            made = maker.body(route.body)
        elif maker.random.random() < 0.2:
            made = b"what nobody asked for"
        return await self.ask(route.method, path, made), (path, made)

    async def known(self, name: str) -> Any:
        """The id of something that is there, so that more than 404 is seen."""
        path, rows_of = {
            "database_id": ("databases", "databases"),
            "token_id": ("tokens", "tokens"),
            "session_id": ("sessions", "sessions"),
            "client_id": ("agents", "agents"),
            "proxy_id": ("proxy/list", "proxies"),
        }[name]
        rows = (await self.ask("GET", f"/api/{path}")).value[rows_of]
        return self.maker.random.choice(rows)[name] if rows else 1

    def assert_described(self, route: Route, heard: Heard, where: str) -> None:
        """An answer is one that the description has, and its JSON fits."""
        operation = described([route])["paths"][route.path][route.method.lower()]
        self.assertLess(heard.status, 500, where)
        if not route.path.count("{") or heard.status != 404:
            self.assertIn(str(heard.status), operation["responses"], where)
        content = operation["responses"][str(heard.status)].get("content", {})
        if "application/json" in content:
            schema: Schema = content["application/json"]["schema"]
            schema = ERROR if "$ref" in schema else schema
            problems = list(wrong_with(parse(heard.body), schema))
            self.assertEqual(problems, [], where)


class MakerTests(SynchronousTestCase):
    """The generator itself."""

    def test_good_values_fit(self) -> None:
        """What it calls good is good by every schema of the API's bodies."""
        from proxyd.web.resources.databases import _REGISTER
        from proxyd.web.resources.tokens import _ISSUE

        maker = Maker(random.Random(1))
        for schema in (_REGISTER, _ISSUE, ERROR):
            for _ in range(200):
                self.assertEqual(list(wrong_with(maker.good(schema), schema)), [])
