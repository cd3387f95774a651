"""
AWS on loopback, as far as proxyd asks it: STS, Secrets Manager, credentials of a container.

Real HTTP for the real botocore. It misbehaves on request: L{FakeAws.trouble}
says how the next answers go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

IDENTITY = "arn:aws:sts::123456789012:assumed-role/bastion/i-0123"

VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_EC2_METADATA_DISABLED", "AWS_ENDPOINT_URL",
)  # fmt: skip


class FakeAws:
    """
    The services.

    @ivar url: where all of them are
    @ivar asked: the actions that were called, in order
    @ivar secret: what Secrets Manager holds
    @ivar trouble: how the answers go: empty, C{silent}, C{throttle}, C{denied},
        C{expired}, C{broken} (500)
    @ivar ahead: seconds that its clock is ahead of ours
    @ivar life: seconds that a container's credentials are good for
    @ivar generation: part of those credentials; count it up to renew them
    """

    def __init__(self, port: int = 0) -> None:
        self.asked: list[str] = []
        self.secret = "hush"
        self.trouble = ""
        self.ahead = 0.0
        self.life = 3600.0
        self.generation = 1
        self._over = Event()
        fake = self

        class Handler(_Handler):
            aws = fake

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Who asked did not wait for the answer: nothing to tell."""

        # In threads of its own, so that it answers whatever the test's reactor does.
        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def variables(self) -> dict[str, str]:
        """The variables by which botocore finds credentials and services here, and only here."""
        return {
            "AWS_CONFIG_FILE": "/nonexistent/config",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/container",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "eu-central-1",
        }

    def stop(self) -> None:
        """Close everything; whoever waits for an answer gets none."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """One call: its status and its answer."""
        action = self._action(path, headers, body)
        self.asked.append(action)
        if self.trouble == "silent":
            self._over.wait()
        refusal = _REFUSALS.get(self.trouble)
        if refusal is not None:
            status, code, text = refusal
            return status, _error(action, code, text)
        if action == "container":
            return 200, self._credentials()
        if action == "GetCallerIdentity":
            return 200, _IDENTITY.encode()
        if action == "GetSecretValue":
            wanted = json.loads(body)["SecretId"]
            found = {"ARN": wanted, "Name": "db", "SecretString": self.secret}
            return 200, json.dumps(found).encode()
        return 400, _error(action, "UnknownOperationException", action)

    def _credentials(self) -> bytes:
        end = datetime.now(UTC) + timedelta(seconds=self.life)
        return json.dumps(
            {
                "AccessKeyId": f"ASIAGENERATION{self.generation}",
                "SecretAccessKey": f"secret-{self.generation}",
                "Token": f"session-{self.generation}",
                "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()

    def _action(self, path: str, headers: Mapping[str, str], body: bytes) -> str:
        if path == "/container":
            return "container"
        target = headers.get("x-amz-target")
        if target is not None:
            return target.rpartition(".")[2]
        for part in body.decode("latin-1").split("&"):
            name, _, value = part.partition("=")
            if name == "Action":
                return value
        return "?"


class _Handler(BaseHTTPRequestHandler):
    """HTTP around L{FakeAws.answer}."""

    aws: FakeAws

    def do_GET(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = self.aws.answer(self.path, headers, body)
        now = datetime.now(UTC) + timedelta(seconds=self.aws.ahead)
        self.send_response_only(status)
        self.send_header("Date", format_datetime(now, usegmt=True))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


_REFUSALS: Mapping[str, tuple[int, str, str]] = {
    "throttle": (400, "ThrottlingException", "Rate exceeded"),
    "denied": (403, "AccessDeniedException", "User: ann is not authorized"),
    "expired": (403, "ExpiredTokenException", "The security token is expired"),
    "broken": (500, "InternalFailure", "oh"),
}

_IDENTITY = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>{IDENTITY}</Arn><UserId>AROA:i-0123</UserId>
<Account>123456789012</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""


def _error(action: str, code: str, text: str) -> bytes:
    if action == "GetCallerIdentity":
        return (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
            f"<Message>{text}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        ).encode()
    return json.dumps({"__type": code, "message": text}).encode()
