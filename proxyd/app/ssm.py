"""An upstream of instances, made of the configuration."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from proxyd.app.room import Ground as DaemonGround
from proxyd.config.times import SsmTimes, UpstreamTimes
from proxyd.config.ways import Aws, Upstream
from proxyd.dial.aws.account import AwsAccount, AwsSession, Keys
from proxyd.dial.aws.ssm import SsmSessions
from proxyd.interfaces import IUpstream
from proxyd.net.clock import hour
from proxyd.net.pem import load_certificates
from proxyd.net.threads import Threads
from proxyd.ssm.ground import Ground
from proxyd.ssm.socket import SocketOpener
from proxyd.ssm.upstream import SsmUpstream
from proxyd.ssm.way import InstancePort

if TYPE_CHECKING:
    from proxyd.ssh.upstream import SshLogin, SshUpstream

_CONNECT = 45.0
"""Seconds: a session is started, a silent port found out, and SSH spoken."""


def ssm_upstream(
    settings: Upstream, ground: DaemonGround, threads: Threads, login: SshLogin | None
) -> IUpstream:
    """
    An upstream of instances, not started yet.

    @param threads: where AWS is asked
    @param login: how SSH is spoken inside; None: the agent forwards
    @raise StartError: a key, or the CA file of C{AWS_CA_BUNDLE}, can't be read
    """
    assert settings.aws is not None
    sessions = _sessions_ground(settings.aws, ground, threads)
    resolves = "local" if settings.resolve == "local" else "far"
    if login is None:
        return SsmUpstream(
            settings.name,
            settings.instances,
            sessions,
            resolves=resolves,
            sessions=settings.sessions,
        )
    return ssh_in_instances(
        settings,
        login,
        sessions,
        ground.reactor,
        resolves=resolves,
        sessions=settings.sessions,
        times=UpstreamTimes(connect=_CONNECT),
    )


def ssh_in_instances(
    settings: Upstream, login: SshLogin, ground: Ground, reactor: Any, **words: Any
) -> SshUpstream:
    """
    An upstream by SSH in sessions; words are L{SshUpstream<proxyd.ssh.upstream.SshUpstream>}'s.

    Its stop fires when AWS knows of the end of all of them: an instance keeps a
    worker, and its connection to sshd, for each one that nobody has ended.
    """
    # Its libraries take a while to import.
    from proxyd.ssh.upstream import Host, SshUpstream

    class SshInInstances(SshUpstream):
        """It stops when its sessions are over, too."""

        def stopService(self) -> Deferred[None]:
            return super().stopService().addCallback(lambda _: ground.unended.none_left())

    assert settings.ssh is not None
    port = settings.ssh.port
    hosts = [Host(one, one, port, InstancePort(ground, one, port)) for one in settings.instances]
    return SshInInstances(settings.name, hosts, login, reactor, **words)


def _sessions_ground(aws: Aws, ground: DaemonGround, threads: Threads) -> Ground:
    reactor, times = ground.reactor, SsmTimes()
    session = AwsSession(
        profile=aws.profile, keys=_keys(aws), region=aws.region, endpoint_url=aws.endpoint_url
    )
    account = AwsAccount(threads, reactor, session)
    source = SsmSessions(account, reactor, secrets.SystemRandom().random, times.call)
    opener = SocketOpener(
        reactor,
        ground.direct,
        source,
        _trust(ground.environment),
        ground.environment,
        clear=(aws.endpoint_url or "").startswith("http://"),
        seconds=times.open,
    )
    return Ground(reactor, source, opener, times, hour() - reactor.seconds())


def _keys(aws: Aws) -> Keys | None:
    if aws.access_key is None or aws.secret_key is None:
        return None
    token = aws.session_token
    return Keys(
        aws.access_key.read(), aws.secret_key.read(), None if token is None else token.read()
    )


def _trust(environment: Mapping[str, str]) -> Callable[[str], IOpenSSLClientConnectionCreator]:
    """By what relays are believed: the system's CAs, or those that AWS's own tools are told of."""
    path = environment.get("AWS_CA_BUNDLE")
    if not path:
        return optionsForClientTLS
    certificates = [
        Certificate(crypto.X509.from_cryptography(one))  # type: ignore[no-untyped-call]
        for one in load_certificates(path)
    ]
    root = trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]
    return lambda host: optionsForClientTLS(host, trustRoot=root)
