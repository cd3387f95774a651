"""
A client's start-up settings: which may be asked for, and what the client is told of them.

They reach the server as bound values of C{set_config}, when a connection is
leased; never the connection on which a password is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from proxyd.postgres.answers import Fatal
from proxyd.postgres.pool import Pool
from proxyd.wire.pg import messages
from proxyd.wire.pg.batch import bound_batch, encoded
from proxyd.wire.pg.date_style import merge_date_styles
from proxyd.wire.pg.startup import split_options

Setting = tuple[str, str]

NAME_LIMIT = 63
"""Bytes of a name in PostgreSQL (NAMEDATALEN - 1)."""

_SET_CONFIG = 2078
"""The OID of pg_catalog.set_config(text, text, boolean): the same in every server (pg_proc.dat)."""

_LEARNT_LIMIT = 1000
_GREETINGS_LIMIT = 256

REPORTED = {
    name.lower(): name
    for name in (
        "application_name",
        "client_encoding",
        "DateStyle",
        "IntervalStyle",
        "standard_conforming_strings",
        "TimeZone",
    )
}
"""What a client may set that PostgreSQL reports by ParameterStatus, by lower-case name."""

ALLOWED = frozenset(REPORTED) | frozenset(
    """
    array_nulls backslash_quote bytea_output check_function_bodies
    client_connection_check_interval client_min_messages commit_delay constraint_exclusion
    cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction debug_print_plan
    default_statistics_target default_table_access_method default_tablespace
    default_text_search_config default_toast_compression default_transaction_deferrable
    default_transaction_isolation default_transaction_read_only effective_cache_size
    enable_async_append enable_bitmapscan enable_gathermerge enable_hashagg enable_hashjoin
    enable_incremental_sort enable_indexonlyscan enable_indexscan enable_material enable_memoize
    enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash
    enable_partition_pruning enable_partitionwise_aggregate enable_partitionwise_join
    enable_seqscan enable_sort enable_tidscan escape_string_warning extra_float_digits
    force_parallel_mode from_collapse_limit geqo geqo_threshold gin_fuzzy_search_limit
    hash_mem_multiplier idle_in_transaction_session_timeout idle_session_timeout jit
    jit_above_cost join_collapse_limit lc_messages lc_monetary lc_numeric lc_time lock_timeout
    logical_decoding_work_mem maintenance_work_mem max_parallel_workers_per_gather
    parallel_leader_participation parallel_setup_cost parallel_tuple_cost password_encryption
    plan_cache_mode quote_all_identifiers random_page_cost row_security search_path
    seq_page_cost statement_timeout synchronize_seqscans synchronous_commit temp_buffers
    temp_tablespaces timezone_abbreviations transaction_timeout transform_null_equals
    vacuum_cost_delay work_mem xmlbinary xmloption
    """.split()  # noqa: SIM905 (words read better than quotes)
)
"""What a start-up packet may set; names with a dot (settings of extensions) too."""

NEVER = frozenset(("role", "session_authorization"))

_NO_SETTING = frozenset(("user", "database", "options", "replication"))

_TRUE = frozenset(("on", "true", "yes", "1", "t", "y"))
_FALSE = frozenset(("off", "false", "no", "0", "f", "n"))


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What a client's start-up packet asks for.

    @param pairs: names in lower case and values, in the order in which
        PostgreSQL would apply them, each name once
    """

    pairs: tuple[Setting, ...]

    @property
    def application_name(self) -> str:
        """The client's own name for itself; empty when it gave none."""
        return dict(self.pairs).get("application_name", "")

    def stamped(self, user: str) -> Settings:
        """The same with C{user|application_name}: a hint to whom a session belongs."""
        return _stamped(self.pairs, user)

    @property
    def sets_role(self) -> bool:
        """Whether a role is among them."""
        return bool(self.pairs) and self.pairs[-1][0] == "role"

    def with_role(self, role: str) -> Settings:
        """The same, acting as C{role}."""
        return Settings((*self.pairs, ("role", role)))


@lru_cache(maxsize=256)
def _stamped(pairs: tuple[Setting, ...], user: str) -> Settings:
    """One value for all who come as the same."""
    stamp = clean_name(f"{user}|{Settings(pairs).application_name}")
    others = tuple(pair for pair in pairs if pair[0] != "application_name")
    return Settings((*others, ("application_name", stamp)))


@lru_cache(maxsize=1024)
def clean_name(text: str) -> str:
    """As PostgreSQL keeps an application_name: printable ASCII, at most 63 bytes."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:NAME_LIMIT]


def read_settings(parameters: Mapping[str, str]) -> Settings:
    """
    The settings of a start-up packet.

    Clients that ask for the same share one value: most of a fleet's do.

    @param parameters: the packet's, without protocol options
    @raise Fatal: replication is asked for, or a setting that no client may make
    @raise PgProtocolError: C{options} can't be read
    """
    return _settings(*parameters.items())


@lru_cache(maxsize=256)
def _settings(*given: Setting) -> Settings:
    parameters = dict(given)
    _refuse_replication(parameters.get("replication"))
    pairs: dict[str, str] = {}
    own = (item for item in given if item[0] not in _NO_SETTING)
    for name, value in (*split_options(parameters.get("options", "")), *own):
        name = _checked(name)
        if name == "datestyle" and name in pairs:
            value = merge_date_styles(pairs[name], value)
        pairs[name] = value
    return _shared(tuple(pairs.items()))


@lru_cache(maxsize=256)
def _shared(pairs: tuple[Setting, ...]) -> Settings:
    """One value for all who come with the same settings, whoever they are."""
    return Settings(pairs)


def _checked(name: str) -> str:
    lower = name.lower()
    if lower in NEVER:
        raise Fatal(
            "42501",
            f'permission denied to set parameter "{lower}" at connection start',
            hint=f"Use SET {lower.upper().replace('_', ' ')} after connecting.",
        )
    if lower not in ALLOWED and "." not in lower:
        raise Fatal(
            "42704",
            f'unrecognized configuration parameter "{name}"',
            hint="proxyd takes the usual settings at connection start: SET others afterwards.",
        )
    return lower


def _refuse_replication(value: str | None) -> None:
    if value is None or value.lower() in _FALSE:
        return
    if value.lower() in _TRUE or value == "database":
        raise Fatal(
            "0A000",
            "replication is not offered through proxyd",
            hint="Connect to the database server itself for replication.",
        )
    raise Fatal("22023", f'invalid value for parameter "replication": "{value}"')


def told(pool: Pool, settings: Settings) -> dict[str, str] | None:
    """
    What a client is told by ParameterStatus before a server is leased to it.

    @return: None when only a server can tell: nothing was learnt yet, or a
        setting is one that the pool does not know the effect of
    """
    if not pool.parameters:
        return None
    effective = dict(pool.parameters)
    for name, value in settings.pairs:
        if name == "role":
            continue
        reported = REPORTED.get(name)
        if reported is None:
            return None
        if name == "application_name" and value == clean_name(value):
            effective[reported] = value
            continue
        learnt = pool.learnt.get((name, value))
        if learnt is None:
            return None
        effective[reported] = learnt
    return effective


@dataclass(frozen=True, slots=True)
class Greeting:
    """
    What a client is greeted with, up to its cancel key.

    @param told: what it is told by ParameterStatus
    @param said: AuthenticationOk, and those messages
    """

    told: Mapping[str, str]
    said: bytes


def greet(parameters: Mapping[str, str]) -> Greeting:
    """The greeting that tells a client these: one value for all who are told the same."""
    return _greeting(tuple(parameters.items()))


@lru_cache(maxsize=256)
def _greeting(parameters: tuple[Setting, ...]) -> Greeting:
    statuses = (messages.parameter_status(*parameter) for parameter in parameters)
    return Greeting(dict(parameters), b"".join((messages.authentication_ok(), *statuses)))


def greeting_of(pool: Pool, settings: Settings) -> Greeting | None:
    """
    The greeting of a client before a server is leased to it; many get the same.

    @return: None when only a server can tell, see L{told}
    """
    greeting = pool.greetings.get(settings.pairs)
    if greeting is None:
        parameters = told(pool, settings)
        if parameters is None:
            return None
        if len(pool.greetings) >= _GREETINGS_LIMIT:
            pool.greetings.clear()
        greeting = pool.greetings[settings.pairs] = greet(parameters)
    return greeting


def retold(told: Mapping[str, str], parameters: Mapping[str, str]) -> bytes:
    """
    ParameterStatus for what a server reports otherwise than a client was told.

    @param told: what the client believes
    @param parameters: what its server reports
    """
    if told == parameters:
        return b""
    return b"".join(
        messages.parameter_status(name, value)
        for name, value in parameters.items()
        if told.get(name) != value
    )


def wanted(settings: Settings, parameters: Mapping[str, str]) -> tuple[Setting, ...]:
    """The settings that a server must be given: those it doesn't report the value of already."""
    pairs = settings.pairs
    for name, value in pairs:
        if name in REPORTED and parameters.get(REPORTED[name]) == value:
            break
    else:
        return pairs
    return tuple(
        (name, value)
        for name, value in pairs
        if name not in REPORTED or parameters.get(REPORTED[name]) != value
    )


def learn(pool: Pool, settings: Settings, parameters: Mapping[str, str]) -> None:
    """Remember what a server reports for the settings it was just given."""
    if len(pool.learnt) >= _LEARNT_LIMIT:
        pool.learnt.clear()
        pool.greetings.clear()
    for name, value in settings.pairs:
        if name in REPORTED and name != "application_name":
            reported = parameters.get(REPORTED[name])
            if reported is not None and pool.learnt.get((name, value)) != reported:
                pool.learnt[name, value] = reported
                pool.greetings.clear()


@lru_cache(maxsize=256)
def settings_request(settings: tuple[Setting, ...]) -> bytes:
    """
    The request that makes these settings, and leaves no unnamed statement behind.

    Values are bound, never part of the SQL. One setting is a FunctionCall
    (protocol chapter, "Function Call"), for which the server has nothing to parse
    and nothing to plan. Several are one extended batch, so that all of them are
    made, or none.
    """
    if len(settings) == 1:
        name, value = settings[0]
        return messages.function_call(_SET_CONFIG, (encoded(name), encoded(value), b"f"))
    calls = ", ".join(
        f"pg_catalog.set_config(${2 * number + 1}, ${2 * number + 2}, false)"
        for number in range(len(settings))
    )
    return bound_batch(f"SELECT {calls}", chain.from_iterable(settings))
