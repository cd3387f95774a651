"""The API described for programs (OpenAPI 3.1), from the same routes that serve it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proxyd import __version__
from proxyd.web.answer import CODES, ERROR, JSON
from proxyd.web.route import Access, Route

_ANY = (403, 408, 431, 500, 503, 504)
"""Errors that every call may be answered with."""

_SECURITY: Mapping[Access, list[dict[str, list[str]]]] = {
    Access.FREE: [],
    Access.METRICS: [{}, {"token": []}],
    Access.ADMIN: [{"token": []}],
}


def described(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of C{/openapi.json}."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "proxyd",
            "version": __version__,
            "description": "Bodies are JSON, whatever the Content-Type says.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def errors_of(route: Route) -> list[int]:
    """Every status by which a call may be refused."""
    found = {*_ANY, *route.errors, 400}
    if route.access is not Access.FREE:
        found.add(401)
    if route.names:
        found.add(404)
    if route.body is not None:
        found |= {413, 422}
    if route.query or route.changes:
        found.add(422)
    return sorted(found)


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in route.names.items()
    ] + [
        {
            "name": name,
            "in": "query",
            "required": bool(schema.get("required")),
            "schema": {word: value for word, value in schema.items() if word != "required"},
        }
        for name, schema in route.query.items()
    ]
    operation: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": route.summary,
        "description": f"Who may call: {route.access.value}.",
        "security": _SECURITY[route.access],
        "responses": _responses(route),
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.optional_body,
            "content": {JSON: {"schema": route.body}},
        }
    return operation


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, (about, schema) in route.answers.items():
        answer: dict[str, Any] = {"description": about}
        if schema is not None:
            answer["content"] = {JSON: {"schema": schema}}
        elif route.kind != JSON:
            answer["content"] = {route.kind: {"schema": {"type": "string"}}}
        found[str(status)] = answer
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in errors_of(route):
        if str(status) not in found:
            found[str(status)] = {"description": CODES.get(status, "error"), "content": error}
    found["default"] = {"description": "Any other refusal", "content": error}
    return found


def _identifier(route: Route) -> str:
    """C{delete_api_tokens_token_id}."""
    words = [route.method.lower(), *route.path.replace("{", "").replace("}", "").split("/")]
    return "_".join(word.replace(".", "_") for word in words if word)
