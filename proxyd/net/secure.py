"""
TLS on a descriptor: pyOpenSSL over the socket itself, with the socket's own manners.

C{recv_into} and C{send} answer as those of a non-blocking socket do, so that
the link needs not know which of the two it holds.

pyOpenSSL's own methods for these two allocate, copy and check more than OpenSSL
itself needs for a small record. So OpenSSL's functions are called as pyOpenSSL
calls them; what went wrong is still told by pyOpenSSL.
"""

from __future__ import annotations

import errno
import socket

from OpenSSL import SSL

from proxyd.net.tls import reason, set_server_name

_RECORD = 16384

_read, _write = SSL._lib.SSL_read, SSL._lib.SSL_write  # type: ignore[attr-defined]
_pointer = SSL._ffi.from_buffer  # type: ignore[attr-defined]


class Secure:
    """
    One side of a TLS connection on a non-blocking socket.

    @ivar connection: pyOpenSSL's connection, for certificates and ALPN
    @ivar failure: why the handshake failed
    """

    __slots__ = ("_ssl", "connection", "failure")

    def __init__(self, connection: SSL.Connection) -> None:
        self.connection = connection
        self._ssl = connection._ssl
        self.failure: Exception | None = None

    @classmethod
    def server(cls, context: SSL.Context, sock: socket.socket) -> Secure:
        """Wait for a client's handshake."""
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        return cls(connection)

    @classmethod
    def client(cls, context: SSL.Context, sock: socket.socket, hostname: str) -> Secure:
        """Begin a handshake with the server of that name."""
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        set_server_name(connection, hostname)
        return cls(connection)

    def handshake(self) -> str:
        """
        Go on with the handshake.

        @return: C{read} or C{write}: what it waits for; empty when it is done
        @raise OSError: it failed; the text says why
        """
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return "read"
        except SSL.WantWriteError:
            return "write"
        except SSL.Error as error:
            self.failure = error
            raise OSError(errno.EPROTO, f"TLS handshake: {reason(error)}") from None
        return ""

    def recv_into(self, buffer: bytearray, size: int = 0) -> int:
        """
        As C{socket.recv_into}: 0 when the peer sent close_notify or FIN.

        Takes whole TLS records while they are full, so nothing is left in
        OpenSSL's own buffer, which epoll can't see.
        """
        count: int = _read(self._ssl, _pointer(buffer), _RECORD)
        if 0 < count < _RECORD:
            return count
        try:
            if count <= 0:
                self.connection._raise_ssl_error(self._ssl, count)
            view = memoryview(buffer)
            limit = (size or len(buffer)) - _RECORD
            while count <= limit:
                try:
                    more = _read(self._ssl, _pointer(view[count:]), _RECORD)
                    if more <= 0:
                        self.connection._raise_ssl_error(self._ssl, more)
                except SSL.ZeroReturnError:
                    self._show_end()
                    break
                except (SSL.WantReadError, SSL.SysCallError):
                    break
                count += more
                if more < _RECORD:
                    break
            return count
        except SSL.WantReadError:
            raise BlockingIOError from None
        except SSL.ZeroReturnError:
            return 0
        except SSL.SysCallError as error:
            if error.args and error.args[0] == -1:
                return 0
            raise OSError(*error.args) from None
        except SSL.Error as error:
            raise OSError(errno.EPROTO, f"TLS: {reason(error)}") from None

    def _show_end(self) -> None:
        """
        Let the poll see the end that close_notify was: no FIN need follow it.

        The next C{recv_into} is made then, and says 0.
        """
        try:
            self.connection.sock_shutdown(socket.SHUT_RD)
        except OSError:
            return

    def send(self, data: bytes | memoryview) -> int:
        """As C{socket.send}, of as many records as the socket takes."""
        size = len(data)
        if not size:
            return 0
        sent = 0
        try:
            if size <= _RECORD:
                done: int = _write(self._ssl, _pointer(data), size)
                if done <= 0:
                    self.connection._raise_ssl_error(self._ssl, done)
                return done
            view = memoryview(data)
            while sent < size:
                piece = view[sent : sent + _RECORD]
                done = _write(self._ssl, _pointer(piece), len(piece))
                if done <= 0:
                    self.connection._raise_ssl_error(self._ssl, done)
                sent += done
            return sent
        except (SSL.WantWriteError, SSL.WantReadError):
            if sent:
                return sent
            raise BlockingIOError from None
        except SSL.ZeroReturnError:
            raise BrokenPipeError(errno.EPIPE, "the peer closed TLS") from None
        except SSL.SysCallError as error:
            raise OSError(*error.args) from None
        except SSL.Error as error:
            raise OSError(errno.EPROTO, f"TLS: {reason(error)}") from None

    def close(self) -> None:
        """Send close_notify, if the socket takes it."""
        try:
            self.connection.shutdown()
        except SSL.Error:
            return
