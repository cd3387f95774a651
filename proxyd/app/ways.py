"""The ways out in the daemon: the upstreams, and the routes that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.app.room import Ground, Room
from proxyd.config.model import Config
from proxyd.config.ways import Upstream
from proxyd.dial.router import Router
from proxyd.dial.servers import ServerDialer
from proxyd.errors import StartError
from proxyd.figures import Figure
from proxyd.interfaces import IDialer, IUpstream
from proxyd.net.certificates import state_directory
from proxyd.net.threads import Threads
from proxyd.rules.routes import Rules
from proxyd.target import Principal, Target
from proxyd.web.resources.routes import RoutesResource
from proxyd.web.route import Resource

if TYPE_CHECKING:
    from proxyd.ssh.upstream import SshLogin

_log = Logger()

_NOBODY = Principal("", "")


class Ways(Room):
    """
    The upstreams of the configuration, and who goes by which.

    @ivar router: the routes in force
    """

    def __init__(
        self,
        ground: Ground,
        config: Config,
        fail: Callable[[StartError], object],
        through_agents: Callable[[Upstream], IUpstream] | None = None,
    ) -> None:
        """
        @param fail: ends the daemon, where an upstream must be up at the start and is not
        @param through_agents: makes an upstream of agents; None: no agent can come
        """
        self._ground = ground
        self._through_agents = through_agents
        self._fail = fail
        self._settings: Mapping[str, Upstream] = {}
        self._running = _Running()
        self._aws = Threads(ground.reactor, "ssm", 8)
        self.router = Router(
            Rules((), None), self._running.all, ground.direct, ground.resolver, ground.reactor
        )
        self.inner = (self._aws, self._running)

    def dialer_for(self, via: str | None) -> IDialer:
        """The way to the servers of a connection."""
        return ServerDialer(self.router, self._ground.direct, via)

    def denies(self, target: Target) -> str | None:
        """Why a target is not dialled for strangers, as far as its text tells; None: it may be."""
        return self.router.denies(target)

    def prepare(self, config: Config) -> Callable[[], None]:
        """
        Upstreams that changed are made anew; the others stay as they are.

        @raise StartError: a key's passphrase can't be read
        """
        made: dict[str, IUpstream] = {}
        for name in config.upstreams:
            self._make(name, config, made)
        first = not self._settings and not self._running.running

        def adopt() -> None:
            self._settings = config.upstreams
            self.router.rules = Rules(config.routes, config.default)
            self._running.use(made)
            if first:
                self._running.started = self._await_required

        return adopt

    def _await_required(self) -> None:
        for name, upstream in self._running.all.items():
            if self._settings[name].start == "required":
                upstream.ready().addErrback(self._not_up)

    def _not_up(self, failure: Failure) -> None:
        """An upstream that must be up is not."""
        if isinstance(failure.value, StartError):
            self._fail(failure.value)

    def _make(self, name: str, config: Config, made: dict[str, IUpstream]) -> IUpstream:
        """An upstream, and before it the one it runs over."""
        if name in made:
            return made[name]
        settings = config.upstreams[name]
        via = None if settings.via is None else self._make(settings.via, config, made)
        old = self._running.all.get(name)
        same = self._settings.get(name) == settings
        if old is not None and same and (settings.via is None or via is self._over(name)):
            made[name] = old
        elif settings.agents:
            if self._through_agents is None:
                raise StartError(
                    f"upstreams.{name} leads through agents, and none can come: say agents:"
                )
            made[name] = self._through_agents(settings)
        else:
            made[name] = self._new(settings, via, config)
        return made[name]

    def _new(self, settings: Upstream, via: IUpstream | None, config: Config) -> IUpstream:
        if not settings.instances:
            return self._ssh(settings, via, config)
        # Its libraries take a while to import.
        from proxyd.app.ssm import ssm_upstream

        login = None if settings.ssh is None else self._login(settings, config)
        return ssm_upstream(settings, self._ground, self._aws, login)

    def _over(self, name: str) -> IUpstream | None:
        """What a running upstream runs over."""
        via = self._settings[name].via
        return None if via is None else self._running.all.get(via)

    def _ssh(self, settings: Upstream, via: IUpstream | None, config: Config) -> IUpstream:
        # Its libraries take a while to import.
        from proxyd.ssh.upstream import Host, SshUpstream

        way: Any = via or self._ground.direct
        hosts = [
            Host(str(host), host.host, host.port, way.endpoint_for(host, _NOBODY))
            for host in settings.hosts
        ]
        reactor: Any = self._ground.reactor
        return SshUpstream(
            settings.name,
            hosts,
            self._login(settings, config),
            reactor,
            resolves="local" if settings.resolve == "local" else "far",
            sessions=settings.sessions,
        )

    def _login(self, settings: Upstream, config: Config) -> SshLogin:
        from proxyd.ssh.known_hosts import HostKeys
        from proxyd.ssh.upstream import SshLogin

        ssh, environment = settings.ssh, self._ground.environment
        assert ssh is not None
        if ssh.known_hosts is not None:
            keys = HostKeys(Path(ssh.known_hosts), learn=False)
        else:
            folder = Path(state_directory(config.state, environment))
            keys = HostKeys(folder / "known_hosts", learn=True)
        return SshLogin(
            ssh.user,
            None if ssh.key is None else Path(ssh.key),
            None if ssh.passphrase is None else ssh.passphrase.read(),
            environment.get("SSH_AUTH_SOCK"),
            keys,
        )

    def fixed(self, config: Config) -> Mapping[str, object]:
        """Whether there is a SOCKS5 listener at all: a reload opens none."""
        return {"socks5": config.socks5 is not None}

    def resources(self) -> Sequence[Resource]:
        """Which way a target goes."""
        return (RoutesResource(self.router),)

    def figures(self) -> Iterator[Figure]:
        """How each upstream is."""
        for name, upstream in self._running.all.items():
            status, labels = upstream.status(), {"upstream": name}
            up = float(status.state == "up")
            yield Figure("upstream_up", "Whether connections can be made at once", up, labels)
            for word, about, value in (
                ("upstream_opened", "Connections made through it", status.opened),
                ("upstream_failed", "Connections that its way could not make", status.failed),
            ):
                yield Figure(word, about, value, labels, only_grows=True)
            for one in status.instances:
                named = {**labels, "instance": one.name}
                connected = float(one.state == "connected")
                yield Figure("upstream_instance_up", "Whether it is connected", connected, named)
                about = "Connections that go through it now"
                yield Figure("upstream_instance_streams", about, one.streams, named)


class _Running(Service):
    """
    The upstreams there are, as one service.

    @ivar all: by name; always the same object
    @ivar started: called once, when they have been started
    """

    name = "upstreams"

    def __init__(self) -> None:
        self.all: dict[str, IUpstream] = {}
        self.started: Callable[[], None] = lambda: None
        self._leaving: set[Deferred[Any]] = set()

    def use(self, upstreams: Mapping[str, IUpstream]) -> None:
        """Have these from now on: the new ones start, those that are no more stop."""
        old = [one for one in self.all.values() if one not in upstreams.values()]
        new = [one for one in upstreams.values() if one not in self.all.values()]
        self.all.clear()
        self.all.update(upstreams)
        if self.running:
            for upstream in new:
                upstream.startService()  # type: ignore[no-untyped-call]
            for upstream in old:
                self._stop(upstream)

    def startService(self) -> None:
        """Begin to connect."""
        super().startService()  # type: ignore[no-untyped-call]
        for upstream in self.all.values():
            upstream.startService()  # type: ignore[no-untyped-call]
        self.started()

    def stopService(self) -> Deferred[Any]:
        """Close them all; what runs over another one first."""
        super().stopService()  # type: ignore[no-untyped-call]
        for upstream in reversed(self.all.values()):
            self._stop(upstream)
        return DeferredList(list(self._leaving))

    def _stop(self, upstream: IUpstream) -> None:
        stopping = upstream.stopService()  # type: ignore[no-untyped-call]
        if isinstance(stopping, Deferred):
            self._leaving.add(stopping)
            stopping.addErrback(lambda failure: _log.failure("an upstream did not stop", failure))
            stopping.addBoth(lambda _: self._leaving.discard(stopping))
