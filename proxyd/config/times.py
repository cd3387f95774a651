"""
Seconds that users rely on and that no key of the configuration sets.

They stand here, beside the defaults of those that have a key, and are handed
in to whoever waits by them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """
    Toward a server.

    @param retry_first: the first pause after a login that failed; each is twice
        the one before, less some jitter
    @param retry_longest: the longest of them
    @param host_avoided: how long a host that failed is tried after the others
    """

    retry_first: float = 0.5
    retry_longest: float = 5.0
    host_avoided: float = 30.0


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """
    At the end of clients' sessions.

    @param goodbye: how long a client's last request goes on after it said
        goodbye, before anybody looks whether it is gone
    @param probe_every: how often that is looked at from then on
    @param stop: how long the statements of ended sessions have to be cancelled
        when proxyd stops
    @param farewell: how long a revoked client has to read its last words: all
        is over within a second
    """

    goodbye: float = 10.0
    probe_every: float = 2.0
    stop: float = 3.0
    farewell: float = 0.4


@dataclass(frozen=True, slots=True)
class PasswordTimes:
    """
    While clients' passwords are checked.

    @param kept: how long a good answer of the server is believed again
    @param first_pause: the first pause of somebody who failed too often; each
        is twice the one before
    @param longest_pause: the longest of them
    @param forgiven: how long nobody must fail for it to be forgotten
    """

    kept: float = 5.0
    first_pause: float = 0.25
    longest_pause: float = 8.0
    forgiven: float = 60.0


@dataclass(frozen=True, slots=True)
class UpstreamTimes:
    """
    Toward the instances of an upstream.

    @param connect: what connecting an instance may take
    @param first_pause: between a loss and the first try after it
    @param longest_pause: to which the pauses grow, each twice the one before,
        less some jitter
    @param soonest: between two tries that somebody waits for
    @param settle: how long one that was lost has to be well again before it
        is preferred to one that did not fail
    """

    connect: float = 15.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    soonest: float = 1.0
    settle: float = 5.0


@dataclass(frozen=True, slots=True)
class PulseTimes:
    """
    How a connection that is dead without a word is noticed.

    @param interval: without a byte, after which the other side is asked
    @param patience: how long it then has to answer
    """

    interval: float = 15.0
    patience: float = 10.0


@dataclass(frozen=True, slots=True)
class SsmTimes:
    """
    Toward AWS's Session Manager.

    @param call: what a call to AWS may take, with its repeats
    @param open: what opening a WebSocket may take
    @param handshake: what the instance's agent has for its part of the hand-shake
    @param first_byte: from which time on a silent port counts as closed
    @param refusal: how long the far side has to refuse a stream before it
        counts as open: an agent says nothing when it has connected
    @param pulse: without a byte, after which the relay is asked whether it lives
    @param patience: how long it then has to answer
    @param unacknowledged: how long an agent may leave a frame unanswered
    @param resume_first: the first pause before a lost socket is resumed; each
        is twice the one before
    @param resume_longest: the longest of them
    @param resume_tries: how often that is tried
    @param goodbye: how long the relay has to confirm the end of a session
    @param idle: how long a session without streams is kept
    @param half_closed: how long a stream whose client sends no more is kept
        without a byte from the far side: smux can't say it, and its FIN would
        cut the answer off
    @param stuck: how long one stream that is not read may hold up others
    @param avoided: how long an instance that refused a session is tried last
    """

    call: float = 20.0
    open: float = 15.0
    handshake: float = 20.0
    first_byte: float = 10.0
    refusal: float = 0.05
    pulse: float = 30.0
    patience: float = 10.0
    unacknowledged: float = 300.0
    resume_first: float = 0.1
    resume_longest: float = 5.0
    resume_tries: int = 6
    goodbye: float = 1.0
    idle: float = 60.0
    half_closed: float = 10.0
    stuck: float = 10.0
    avoided: float = 5.0


LINGER = 5.0
"""How long a peer has to read our last words before its socket is reset."""

REST_UNREAD = 60.0
"""How long either end of a reverse port has to read the rest when the other one is gone."""

LAST_BYTES = 60.0
"""How long a far side may take nothing of what still waits for it when its writer has closed."""

LONGEST_DIAL = 3600.0
"""
When a dial is given up by the dialer itself.

Whoever dials has a deadline of its own (C{connect_timeout}): this is for one who forgot.
"""

STORE_ANSWER = 10.0
"""How long the state store may take for anything it is asked."""

STORE_WATCH = 0.25
"""Between two looks whether a shared store has been silent for too long."""

TOKENS_FORGOTTEN = 3600.0
"""Between two times that expired tokens are forgotten."""

DATE_AGAIN = 60.0
"""After which whoever waits for a date looks at the clock again: it may have been set meanwhile."""

API_REQUEST = 20.0
"""Within these a request to the API is here as a whole, from its first byte."""

API_ANSWER = 60.0
"""A call of the API that is not answered by then is given up."""

API_IDLE = 60.0
"""How long a connection to the API may wait for its next request, or be read from at its end."""

API_LINGER = 2.0
"""For so long a client that the API refused may still read why."""

AGENT_HANDSHAKE = 10.0
"""How long the opening of an agent's WebSocket may take."""

AGENT_LINE_SLOW = 0.05
"""Until an agent's line has taken a message, from which on the next ones are shorter."""

SSH_AGENT = 30.0
"""How long an ssh-agent may take: it may ask a person first."""

NAME_GLANCE = 5.0
"""After which a target is judged without its name's addresses, where they only might matter."""

UDP_VERDICT = 30.0
"""For which what the rules said of a datagram's target is good."""
