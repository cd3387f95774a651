"""Tests for L{proxyd.dial.aws.ssm}: what AWS is asked, and the line that a user sees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase

from proxyd.dial.aws.account import AwsAccount, AwsSession, Keys
from proxyd.dial.aws.ssm import SsmSessions, signature
from proxyd.errors import DialError
from proxyd.net.threads import Threads
from tests.support.ssm_agent import Manners
from tests.support.ssm_peer import SsmPeer
from tests.support.streams import until

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG")

LINES = (
    (400, "TargetNotConnected", "the instance is not online in SSM"),
    (400, "InvalidDocument", "AWS does not know the session document"),
    (500, "InternalServerError", "AWS has trouble of its own"),
    (400, "AccessDeniedException", "AWS does not allow ssm:StartSession: text"),
    (400, "ThrottlingException", "AWS asks to slow down"),
    (400, "ExpiredTokenException", "the AWS credentials have expired"),
    (403, "ExpiredToken", "the AWS credentials have expired"),
    (400, "UnrecognizedClientException", "AWS does not know these credentials"),
    (403, "InvalidClientTokenId", "AWS does not know these credentials"),
    (403, "InvalidSignatureException", "AWS refuses the signature"),
    (403, "SignatureDoesNotMatch", "AWS refuses the signature"),
    (400, "IncompleteSignature", "AWS got a request without a whole signature"),
    (403, "MissingAuthenticationToken", "AWS got a request without a whole signature"),
    (400, "RequestExpired", "AWS refuses the signature's time"),
    (403, "OptInRequired", "this AWS account is not signed up"),
    (400, "DoesNotExistException", "AWS does not know that session"),
    (400, "ValidationException", "ssm:StartSession: ValidationException: text"),
    (400, "SomethingNew", "ssm:StartSession: SomethingNew: text"),
)
"""Errors of the three calls and of all of AWS, with what a line about them begins with."""

PASSING = ("InternalServerError", "ThrottlingException")
HOWTO = Path(__file__).parents[3] / "docs" / "howto-ssm.md"


class SsmSessionsTests(TestCase):
    """The three calls, and signing."""

    def setUp(self) -> None:
        self.peer = SsmPeer()
        self.addCleanup(self.peer.stop)
        self.peer.instances["i-1"] = Manners()
        self.threads = Threads(reactor, "aws", 4)  # type: ignore[arg-type]
        self.threads.startService()  # type: ignore[no-untyped-call]
        self.addCleanup(self.threads.stopService)

    def sessions(self, seconds: float = 20.0, **words: Any) -> SsmSessions:
        """Whoever asks; words are of the L{AwsSession}."""
        settings = {"keys": KEYS, "region": "eu-west-1", "endpoint_url": self.peer.url} | words
        account = AwsAccount(self.threads, reactor, AwsSession(**settings))  # type: ignore[arg-type]
        return SsmSessions(account, reactor, lambda: 0.0, seconds)  # type: ignore[arg-type]

    async def line(self, asking: Any) -> str:
        """The text of the failure."""
        try:
            await asking
        except DialError as problem:
            return problem.detail
        raise AssertionError("no failure")

    async def test_calls(self) -> None:
        """A session is started, resumed with another token, and ended."""
        sessions = self.sessions()
        await sessions.check()
        ticket = await sessions.start("i-1", "AWS-StartSSHSession", {"portNumber": "22"})
        again = await sessions.resume(ticket.session_id)
        assert again is not None
        self.assertNotEqual(again.token, ticket.token)
        self.assertNotIn(ticket.token, repr(ticket))
        await sessions.terminate(ticket.session_id)
        self.assertEqual(self.peer.api.asked, ["StartSession", "ResumeSession", "TerminateSession"])
        self.assertIn("/eu-west-1/ssm/aws4_request", self.peer.api.authorization[0])

    async def test_started_in_vain(self) -> None:
        """A session that nobody waits for any more when AWS has it is ended: nobody else could."""
        self.peer.api.goes_on.clear()
        asking = self.sessions().start("i-1", "AWS-StartSSHSession", {"portNumber": "22"})
        await until(lambda: "StartSession" in self.peer.api.asked, "the call")
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        self.peer.api.goes_on.set()
        await until(lambda: "TerminateSession" in self.peer.api.asked, "its end")

    async def test_over(self) -> None:
        """A session that AWS does not know any more, or gives no token for, is over."""
        sessions = self.sessions()
        self.assertIsNone(await sessions.resume("nobody"))
        ticket = await sessions.start("i-1", "AWS-StartSSHSession", {"portNumber": "22"})
        self.peer.forgets = True
        self.assertIsNone(await sessions.resume(ticket.session_id))

    async def test_every_error(self) -> None:
        """For every error that the API models, and those common to AWS: one clear line."""
        for status, code, words in LINES:
            # What passes is tried again until the time is over.
            sessions = self.sessions(seconds=5.0 if code in PASSING else 30.0)
            self.peer.api.errors = [(status, code, "text")] * 50
            line = await self.line(sessions.start("i-1", "AWS-StartSSHSession", {}))
            self.assertTrue(line.startswith(f"i-1: {words}"), line)
            self.assertNotIn(KEYS.secret_key, line)
        self.peer.api.errors = []

    def test_all_that_is_modelled(self) -> None:
        """No error that botocore knows for these calls is missing, here or in the documents."""
        model = botocore.session.get_session().get_service_model("ssm")
        known = {code for _, code, _ in LINES}
        for call in ("StartSession", "ResumeSession", "TerminateSession"):
            modelled = {shape.name for shape in model.operation_model(call).error_shapes}
            self.assertEqual(modelled - known, set(), call)
        text = HOWTO.read_text()
        for _, code, words in LINES:
            if code != "SomethingNew":
                self.assertIn(f"`{code}`", text)
                self.assertIn(words.replace(": text", ": …").replace(code, "CODE"), text)

    async def test_slower(self) -> None:
        """Asked to slow down it waits, and asks again."""
        self.peer.api.errors = [(400, "ThrottlingException", "Rate exceeded")] * 4
        ticket = await self.sessions().start("i-1", "AWS-StartSSHSession", {"portNumber": "22"})
        self.assertTrue(ticket.session_id)

    async def test_credentials(self) -> None:
        """None, half of them, a profile that is not there."""
        variables = self.peer.api.variables()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            variables.setdefault(name, "")
        variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = ""
        self.environment(variables)
        for words, told in (
            ({"keys": None}, "no AWS credentials were found"),
            ({"keys": None, "profile": "nobody"}, "The config profile (nobody) could not be found"),
        ):
            self.assertIn(told, await self.line(self.sessions(**words).check()))
        sessions = self.sessions(keys=None)
        self.assertEqual(await sessions.sign("wss://relay/x", "relay:443"), {})
        os.environ["AWS_ACCESS_KEY_ID"] = "AKID"
        line = await self.line(self.sessions(keys=None).check())
        self.assertIn("incomplete", line)

    async def test_nobody_there(self) -> None:
        """An endpoint that can't be reached is named, and so is one that is silent."""
        line = await self.line(
            self.sessions(8.0, endpoint_url="http://127.0.0.1:1").start("i-1", "AWS-x", {})
        )
        self.assertIn("AWS can't be reached for ssm:StartSession", line)
        self.peer.api.trouble = "silent"
        line = await self.line(self.sessions(0.2).start("i-1", "AWS-StartSSHSession", {}))
        self.assertIn("no answer in 0.2 s", line)

    def environment(self, variables: dict[str, str]) -> None:
        """These variables for a test; empty: not there."""
        before = dict(os.environ)

        def restore() -> None:
            os.environ.clear()
            os.environ.update(before)

        self.addCleanup(restore)
        os.environ.update({name: value for name, value in variables.items() if value})
        for name, value in variables.items():
            if not value:
                os.environ.pop(name, None)


class SignatureTests(TestCase):
    """SigV4 of a WebSocket's opening."""

    URL = "wss://relay.example/v1/data-channel/x?role=publish_subscribe&cell-number=A/b+c=="

    def signed(self, url: str) -> Any:
        """The headers."""
        session = AwsSession(keys=KEYS, region="us-east-1")
        return signature(session, url, "relay.example:443")

    def test_what_is_signed(self) -> None:
        """The host with its port, and the query as AWS's own client encodes it."""
        found = self.signed(self.URL)
        self.assertIn("/us-east-1/ssmmessages/aws4_request", found["Authorization"])
        self.assertNotIn("Host", found)
        # The same by hand: a raw + is a space there, and / and = are escaped.
        request = AWSRequest(
            "GET",
            "https://relay.example/v1/data-channel/x"
            "?role=publish_subscribe&cell-number=A%2Fb%20c%3D%3D",
            headers={"Host": "relay.example:443", "X-Amz-Date": found["X-Amz-Date"]},
        )
        request.context["timestamp"] = found["X-Amz-Date"]
        credentials = ReadOnlyCredentials(KEYS.access_key, KEYS.secret_key, None)
        signer = SigV4Auth(credentials, "ssmmessages", "us-east-1")
        canonical = signer.canonical_request(request)
        self.assertIn("host:relay.example:443", canonical)
        self.assertIn("cell-number=A%2Fb%20c%3D%3D&role=publish_subscribe", canonical)
        text = signer.string_to_sign(request, canonical)
        self.assertIn(signer.signature(text, request), found["Authorization"])

    def test_signed_already(self) -> None:
        """An address that carries a signature gets no second one."""
        self.assertEqual(self.signed("wss://relay.example/x?X-Amz-Signature=1"), {})
