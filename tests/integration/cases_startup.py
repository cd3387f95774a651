"""What a client may say first, in good order and in bad."""

from __future__ import annotations

from struct import pack

from tests.support.database import DATABASE, OPEN_SERVICE
from tests.support.pgbytes import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    SSL_REQUEST,
    query,
    startup,
)
from tests.support.trace import Case, Delivery, Errors, Step

WHO = {"user": OPEN_SERVICE, "database": DATABASE}
PADDING = 10_000 - len(startup(WHO | {"options": ""}))
SHOWN = Step(query("SHOW DateStyle; SHOW TimeZone; SHOW extra_float_digits; SHOW search_path"), "Z")
PLAIN = frozenset({Delivery.STEPS, Delivery.BYTES})
ALONE = frozenset({Delivery.STEPS})
REFUSED_BY = PLAIN | {Delivery.TLS}


def greeted(name: str, promise: str, **settings: str) -> Case:
    """A good start-up with settings of the client's own, and what then holds."""
    return Case(name, promise, (SHOWN,), settings=settings)


def refused(name: str, promise: str, first: bytes, errors: Errors = Errors.CODES) -> Case:
    """A first packet after which the server says why it closes, and closes."""
    step = Step(first, "$")
    return Case(name, promise, (step,), errors=errors, raw=True, deliveries=REFUSED_BY)


SETTINGS = [
    greeted("plain_start", "A session begins with the parameters of the server (22, 35)."),
    greeted("client_encoding", "The encoding is the client's (22).", client_encoding="LATIN1"),
    greeted("client_encoding_odd", "A name as old drivers write it (22).", client_encoding="utf-8"),
    greeted("date_style", "DateStyle is the client's (22).", DateStyle="SQL, DMY"),
    greeted("time_zone", "TimeZone is the client's (22).", TimeZone="Australia/Sydney"),
    greeted("lower_case", "Names of settings know no case (22).", timezone="Europe/Paris"),
    greeted("float_digits", "extra_float_digits is applied (21).", extra_float_digits="-3"),
    greeted("search_path", "search_path is applied (21).", search_path="pg_catalog"),
    greeted("statement_timeout", "statement_timeout is applied (21).", statement_timeout="71s"),
    greeted("options_c", "options -c k=v (20).", options="-c DateStyle=German -c work_mem=5MB"),
    greeted("options_short", "options -ck=v (20).", options="-cDateStyle=German"),
    greeted(
        "options_long",
        "options --k=v, dashes read as underscores (20).",
        options="--extra-float-digits=0 --search-path=public",
    ),
    greeted(
        "options_blanks",
        "Blanks and backslashes in options (20).",
        options="  -c   search_path=pg_catalog,\\ public  ",
    ),
    greeted(
        "date_style_merged",
        "A second DateStyle leaves what it does not name (22).",
        DateStyle="SQL",
        options="-c DateStyle=DMY",
    ),
    greeted(
        "date_style_merged_german",
        "German brings its own order (22).",
        options="-c DateStyle=YMD -c DateStyle=German",
    ),
    greeted(
        "date_style_merged_upper_case",
        "Whatever case its name is in (22).",
        datestyle="Postgres,YMD",
        DateStyle="dmy",
    ),
    greeted(
        "options_and_parameter",
        "A parameter wins over options (20).",
        options="-c TimeZone=Asia/Tokyo",
        TimeZone="Asia/Kabul",
    ),
    greeted(
        "replication_off", "replication=false is an ordinary session (19).", replication="false"
    ),
]

BROKEN_STARTS = [
    refused(
        "setting_bad_value",
        "A bad value: the server's error (21).",
        startup(WHO | {"DateStyle": "Klingon"}),
    ),
    refused(
        "setting_unknown",
        "A setting nobody knows is refused by name (21).",
        startup(WHO | {"no_such_setting": "1"}),
    ),
    refused(
        "encoding_unknown",
        "An encoding that does not exist is refused (22).",
        startup(WHO | {"client_encoding": "EBCDIC"}),
    ),
    refused(
        "options_bad_word",
        "options that are none are refused (20).",
        startup(WHO | {"options": "nonsense"}),
    ),
    refused(
        "options_bad_value",
        "A bad value in options (20).",
        startup(WHO | {"options": "-c TimeZone=Nowhere/Land"}),
    ),
    refused(
        "replication_invalid",
        "replication of no kind: 22023 (19).",
        startup(WHO | {"replication": "perhaps"}),
    ),
    refused("no_user", "No user: 28000 (17).", startup({"database": DATABASE})),
    refused(
        "empty_user", "An empty user is none (17).", startup({"user": "", "database": DATABASE})
    ),
    refused("no_terminator", "No terminator: 08P01 (17).", startup(WHO, end=b"")),
    refused(
        "trailing_bytes", "Bytes behind the terminator: 08P01 (17).", startup(WHO, end=b"\0x\0")
    ),
    refused("major_4", "Protocol 4 is not spoken: 0A000 (13).", startup(WHO, 4 << 16)),
    refused(
        "length_too_small",
        "A length below 8 is no start-up packet (10).",
        pack("!i", 4),
        Errors.MAY_ADD_FATAL,
    ),
    refused(
        "length_negative",
        "A negative length is no start-up packet (10).",
        pack("!ii", -8, PROTOCOL_3_0),
        Errors.MAY_ADD_FATAL,
    ),
    refused(
        "length_too_big",
        "A length of 20,000 is no start-up packet (10).",
        pack("!ii", 20_000, PROTOCOL_3_0),
        Errors.MAY_ADD_FATAL,
    ),
    refused(
        "http", "A web browser is sent away (12).", b"GET / HTTP/1.0\r\n\r\n", Errors.MAY_ADD_FATAL
    ),
]

SETTINGS += [
    Case(
        "duplicate_setting",
        "Of a parameter sent twice the last one counts (17).",
        (
            Step(
                startup([*WHO.items(), ("TimeZone", "Asia/Tokyo"), ("TimeZone", "Asia/Kabul")]), "Z"
            ),
            SHOWN,
        ),
        raw=True,
    ),
    Case(
        "duplicate_date_style",
        "DateStyle sent twice is put together (17, 22).",
        (Step(startup([*WHO.items(), ("DateStyle", "YMD"), ("DateStyle", "SQL")]), "Z"), SHOWN),
        raw=True,
    ),
    Case(
        "longest_packet",
        "10,000 bytes are not too many (11).",
        (Step(startup(WHO | {"options": " " * PADDING}), "Z"), SHOWN),
        raw=True,
        deliveries=frozenset({Delivery.STEPS, Delivery.AT_ONCE}),
    ),
]


def negotiated(name: str, promise: str, first: bytes) -> Case:
    """A start-up packet of a newer protocol, and what is spoken then."""
    return Case(name, promise, (Step(first, "Z"), SHOWN), raw=True, deliveries=NEGOTIATING)


OPTIONS = WHO | {"_pq_.one": "1", "_pq_.two": "2"}
NEGOTIATING = frozenset({Delivery.STEPS, Delivery.BYTES, Delivery.AT_ONCE})

NEGOTIATED = [
    negotiated("protocol_3_1", "3.1 is 3.0, without a word (14).", startup(WHO, PROTOCOL_3_0 | 1)),
    negotiated("protocol_3_2", "3.2: a long cancel key (15).", startup(WHO, PROTOCOL_3_0 | 2)),
    negotiated(
        "protocol_3_3",
        "3.3 is negotiated down to 3.2, long key included (14, 15).",
        startup(WHO, PROTOCOL_3_0 | 3),
    ),
    negotiated(
        "protocol_3_9999",
        "3.9999 is negotiated down, not refused (16).",
        startup(WHO, PROTOCOL_3_0 | 9999),
    ),
    negotiated("protocol_options", "Options nobody knows are told by name (14).", startup(OPTIONS)),
    *(
        negotiated(
            f"protocol_3_{minor}_options",
            "So they are in newer protocols (14).",
            startup(OPTIONS, PROTOCOL_3_0 | minor),
        )
        for minor in (1, 2, 3)
    ),
    Case(
        "protocol_4",
        "Protocol 4 is not spoken (13).",
        (Step(startup(WHO, 4 << 16), "$"),),
        raw=True,
        errors=Errors.CODES,
        deliveries=PLAIN,
    ),
]

ENCRYPTION = [
    Case(
        "gss_inside_tls",
        "GSSENCRequest, in TLS, is no protocol version (3).",
        (Step(GSSENC_REQUEST, "$"),),
        raw=True,
        errors=Errors.CODES,
        deliveries=frozenset({Delivery.TLS}),
    ),
    Case(
        "ssl_inside_tls",
        "A second SSLRequest, in TLS, is no protocol version (3).",
        (Step(SSL_REQUEST, "$"),),
        raw=True,
        errors=Errors.CODES,
        deliveries=frozenset({Delivery.TLS}),
    ),
]
