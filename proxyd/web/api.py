"""
The API: calls are found by Klein, and here each is let in, checked, served and answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import TimeoutError as TwistedTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BaseConverter

from proxyd.config.times import API_ANSWER
from proxyd.records import Conflict, Invalid, StoreError, StoreLost, Unknown
from proxyd.web.answer import Answer, ApiError, invalid, not_found, phrase
from proxyd.web.audit import audit
from proxyd.web.guard import Guard, Visit
from proxyd.web.http import ApiRequest
from proxyd.web.route import ANY_TEXT, Call, Caller, Route
from proxyd.web.schema import NotJson, Wrong, parse, wrong_with

_log = Logger()

_STATUS: Mapping[type[StoreError], int] = {
    Unknown: 404,
    Conflict: 409,
    Invalid: 422,
    StoreLost: 503,
}


class _AnyText(BaseConverter):
    """The rest of a path, slashes and all."""

    regex = "(?s:.+)"
    part_isolating = False


class Api(Resource):
    """
    All calls, as the one resource of a site.

    @ivar guard: who may call; replaced by a reload
    @ivar routes: the calls
    """

    isLeaf = True

    def __init__(self, routes: Iterable[Route], guard: Guard, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.guard = guard
        self.routes = tuple(routes)
        self._clock = clock
        app = Klein()
        # A path is taken as it stands: nothing is answered by a redirection.
        app.url_map.merge_slashes = False
        app.url_map.strict_slashes = True
        app.url_map.converters[ANY_TEXT] = _AnyText
        for route in self.routes:
            app.route(route.rule, methods=[route.method], endpoint=route.key)(self._endpoint(route))
        app.handle_errors(HTTPException)(_not_routed)  # type: ignore[arg-type]
        self._app = app
        self._klein = app.resource()

    def rules(self) -> list[Any]:
        """What the router knows (werkzeug's C{Rule}s): for the test that nothing else is served."""
        return list(self._app.url_map.iter_rules())

    def render(self, request: ApiRequest) -> Any:
        """Let a request in, and have it routed."""
        try:
            self.guard.check_origin(visit_of(request))
            _check_url(request)
        except ApiError as error:
            return _written(request, error.answer())
        return self._klein.render(request)

    def _endpoint(self, route: Route) -> Callable[..., Deferred[bytes]]:
        """What Klein calls for a route."""

        def serve(request: ApiRequest, **names: str) -> Deferred[bytes]:
            request.route = route.key
            # Asked now: a client that has left has no address.
            source = source_of(request)
            done: Deferred[bytes] = Deferred(lambda _: None)

            def answered(result: Answer | Failure) -> None:
                body = self._tell(result, request, route, names, source)
                if not done.called:
                    done.callback(body)

            # Klein cancels `done` when the client leaves: what was begun is ended all the same.
            Deferred.fromCoroutine(self._answer(request, route, names)).addBoth(answered)
            return done

        return serve

    async def _answer(self, request: ApiRequest, route: Route, names: Mapping[str, str]) -> Answer:
        visit = visit_of(request)
        self.guard.check_access(visit, route.access)
        call = Call(
            Caller(source_of(request)),
            _path_values(route, names),
            _query_values(route, request.args or {}),
            _body_value(route, request.content.getvalue()),
        )
        served = route.serve(call)
        if isinstance(served, Answer):
            return served
        waiting: Deferred[Answer] = ensureDeferred(served)  # type: ignore[arg-type]
        return await waiting.addTimeout(API_ANSWER, self._clock)

    def _tell(
        self,
        result: Answer | Failure,
        request: ApiRequest,
        route: Route,
        names: Mapping[str, str],
        source: str,
    ) -> bytes:
        """Turn what came of a call into the bytes of its answer; a change gets its audit line."""
        code = ""
        if isinstance(result, Failure):
            error = _error_of(result, route)
            code, answer = error.code, error.answer()
        else:
            answer = result
        if route.changes and answer.status != 401:
            audit(
                source,
                route.key,
                {**names, **_made(route, answer)},
                answer.status,
                code,
            )
        elif answer.status == 401:
            _log.warn(
                "{source} was refused {route}: no good token",
                source=source,
                route=route.key,
            )
        return _written(request, answer)


def visit_of(request: ApiRequest) -> Visit:
    """A request as the guard sees it."""
    channel = request.channel
    peer, here = channel.transport.getPeer(), channel.transport.getHost()
    return Visit(
        local=channel.peer_user is not None,
        peer=getattr(peer, "host", ""),
        here=getattr(here, "host", ""),
        secure=bool(request.isSecure()),  # type: ignore[no-untyped-call]
        headers={
            name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
        },
    )


def source_of(request: ApiRequest) -> str:
    """Who called, for the log."""
    user = request.channel.peer_user
    if user is not None:
        return f"unix (user {user})"
    peer = request.channel.transport.getPeer()
    host = getattr(peer, "host", None)
    if host is None:
        return "unix"
    return f"[{host}]:{peer.port}" if ":" in host else f"{host}:{peer.port}"


def _check_url(request: ApiRequest) -> None:
    """Klein answers a path that is not UTF-8 in words of its own: see to it before."""
    try:
        for part in request.postpath or []:
            part.decode("utf-8")
        request.method.decode("ascii")
    except UnicodeDecodeError:
        raise ApiError(400, "the path is not UTF-8") from None


def _not_routed(request: ApiRequest, failure: Failure) -> bytes:
    """Klein found no call for this path and method."""
    error = failure.value
    assert isinstance(error, HTTPException)
    if isinstance(error, MethodNotAllowed):
        methods = {*(error.valid_methods or ()), "OPTIONS"}
        allow = {"Allow": ", ".join(sorted(methods))}
        if request.method == b"OPTIONS":
            return _written(request, Answer(204, headers=allow))
        refusal = ApiError(405, f"this path takes {allow['Allow']}", headers=allow)
    elif error.code == 404:
        refusal = not_found("there is no such path: /openapi.json tells which there are")
    else:
        refusal = ApiError(error.code or 400, "this path can't be understood")
    return _written(request, refusal.answer())


def _error_of(failure: Failure, route: Route) -> ApiError:
    """What a client is told of what went wrong."""
    error = failure.value
    if isinstance(error, ApiError):
        return error
    if isinstance(error, StoreError):
        status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
        return ApiError(status, str(error))
    if isinstance(error, TwistedTimeoutError):
        return ApiError(504, "this took too long; it may still come to its end")
    _log.failure("{route} failed", failure, route=route.key)
    return ApiError(500, "proxyd failed: its log says how")


def _path_values(route: Route, names: Mapping[str, str]) -> dict[str, Any]:
    """The values of a path's names; one that can't be is not there."""
    found: dict[str, Any] = {}
    for name, text in names.items():
        schema = route.names[name]
        value = _number(text) if schema["type"] == "integer" else text
        if value is None or any(wrong_with(value, schema)):
            raise not_found(f"there is no such {name}")
        found[name] = value
    return found


def _query_values(route: Route, given: Mapping[bytes, list[bytes]]) -> dict[str, Any]:
    """
    The values behind the C{?}.

    @raise ApiError: 422: one is wrong, or given twice
    """
    found: dict[str, Any] = {}
    problems: list[Wrong] = []
    for name, schema in route.query.items():
        texts = given.get(name.encode(), [])
        if len(texts) > 1:
            problems.append(Wrong(name, "is given twice"))
        elif texts:
            text = texts[0].decode("utf-8", "surrogateescape")
            value = _number(text) if schema["type"] == "integer" else text
            if value is None:
                problems.append(Wrong(name, "must be a whole number"))
                continue
            problems += wrong_with(value, schema, name)
            found[name] = value
        elif schema.get("required"):
            problems.append(Wrong(name, "is missing"))
    # Who means ?issuer= and writes another word must not revoke another token.
    if route.changes and any(name.decode("latin-1") not in route.query for name in given):
        problems.append(Wrong("?", f"known here: {', '.join(route.query) or 'nothing'}"))
    if problems:
        raise invalid(problems)
    return found


def _body_value(route: Route, data: bytes) -> Mapping[str, Any]:
    """
    The body of a call, checked.

    @raise ApiError: 400: it is no JSON, 422: its values are wrong
    """
    if route.body is None or (route.optional_body and not data.strip()):
        return {}
    try:
        value = parse(data)
    except NotJson as error:
        raise ApiError(400, f"the body is not JSON: {error}", "not_json") from None
    problems = list(wrong_with(value, route.body))[:20]
    if problems:
        raise invalid(problems)
    body: dict[str, Any] = value
    return body


def _number(text: str) -> int | None:
    """A whole number as decimal digits; None: it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 else None


def _made(route: Route, answer: Answer) -> dict[str, Any]:
    """The ids in an answer, for the audit line."""
    if not isinstance(answer.value, dict) or answer.status >= 400:
        return {}
    return {
        name: value
        for name, value in answer.value.items()
        if name.endswith("_id") and isinstance(value, str | int)
    }


def _written(request: ApiRequest, answer: Answer) -> bytes:
    """Set an answer's status and headers; gives its body."""
    body = answer.body()
    request.setResponseCode(answer.status, phrase(answer.status))
    for name, value in answer.headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
    request.prepare(answer.kind, len(body))
    return body
