"""
What a server answers to a version of the protocol that it does not speak.

Source: PostgreSQL, "Frontend/Backend Protocol", chapters "Protocol Versions"
and "Message Formats" (NegotiateProtocolVersion); libpq's
C{pqGetNegotiateProtocolVersion3}.
"""

from __future__ import annotations

from struct import unpack_from

from proxyd.errors import ProtocolError
from proxyd.wire.pg import messages


def negotiated_minor(body: bytes, asked: int, least: int) -> int:
    """
    The minor version that a NegotiateProtocolVersion leaves us with.

    We ask for no protocol options, so that there are none to be told of. The
    version is read as PostgreSQL sends it, whole, or as its documentation has
    it, the minor number alone. A repetition of what was asked for is
    harmless, and believed.

    @param body: the message, without its header
    @param asked: the minor version that was asked for
    @param least: the lowest that will do
    @raise ProtocolError: the message is none, offers what was not asked for,
        or less than what will do
    """
    if len(body) != 8:
        raise ProtocolError("the server negotiates protocol options that were not asked for")
    version: int
    options: int
    version, options = unpack_from("!ii", body)
    if options:
        raise ProtocolError("the server negotiates protocol options that were not asked for")
    major, minor = version >> 16, version & 0xFFFF
    if major not in (0, messages.PROTOCOL_3 >> 16) or minor > asked:
        raise ProtocolError("the server negotiates a version that was not asked for")
    if minor == 1:
        raise ProtocolError("the server negotiates protocol 3.1, which there is not")
    if minor < least:
        raise ProtocolError(
            f"the server speaks protocol 3.{minor}, and min_protocol_version is 3.{least}"
        )
    return minor
