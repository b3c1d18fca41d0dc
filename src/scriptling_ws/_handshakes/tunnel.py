"""Asking an HTTP proxy for a tunnel, and what it says to that: without I/O.

Rules (RFC 9110 sections 9.3.6 and 11.7.1, RFC 9112 section 3.2.3):

- CONNECT names host and port, and nothing else of the URL: not its path, which may hold a secret.
- User and password of the proxy are for the proxy alone, as those of the server are for it: neither
  is in the other's request, in an error or in a `repr`.
- Any 2xx opens the tunnel, whatever Content-Length it has; what follows the head is the server's.
  Interim responses are skipped, a bounded number. All else is a ProxyError with the status.
"""

from __future__ import annotations

import base64
from typing import Final

import h11

from .._errors import ProxyError, forget_frames
from .._fields import joined_headers
from .._version import __version__
from .head import FOREIGN_ERRORS

__all__ = ["Tunnel"]

_MAX_INTERIM: Final = 16
_OPEN: Final = range(200, 300)
_ADVICE: Final = {
    403: "it does not allow this host or port",
    404: "it may be a web server and no proxy",
    405: "it may be a web server and no proxy",
    429: "it gets more requests than it takes: try again later",
    502: "it could not reach the server",
    503: "it could not reach the server, or is overloaded",
    504: "the server did not answer it in time",
}
_WANTED: Final = "it wants credentials: put them into its URL, http://user:password@host:port"
_REFUSED: Final = "it takes no tunnels to this host and port"


class Tunnel:
    """A client's side of one CONNECT.

    Attributes:
        request: The bytes to send.
    """

    def __init__(self, authority: str, credentials: tuple[bytes, bytes] | None, where: str) -> None:
        """Make the request; nothing is sent yet.

        Args:
            authority: The server's host and port.
            credentials: The user and the password for the proxy, or None.
            where: The proxy's host and port, for errors.
        """
        self._where = where
        self._has_credentials = credentials is not None
        self._interim = 0
        self._http = h11.Connection(h11.CLIENT)
        target = authority.encode("ascii")
        headers = [
            (b"Host", target),
            (b"User-Agent", f"scriptling-ws/{__version__}".encode("ascii")),
        ]
        if credentials is not None:
            token = base64.b64encode(b":".join(credentials))
            headers.append((b"Proxy-Authorization", b"Basic " + token))
        event = h11.Request(method=b"CONNECT", target=target, headers=headers)
        request = self._http.send(event)
        assert request is not None
        self.request: bytes = request

    def receive(self, head: bytes) -> bool:
        """Take in a complete head of the proxy's.

        Returns:
            Whether the tunnel is open; False for an interim response, which another follows.

        Raises:
            ProxyError: the proxy refuses, or its answer is not valid.
        """
        try:
            self._http.receive_data(head)
            event = self._http.next_event()
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            text = f"the answer of the proxy {self._where} is not valid HTTP"
            raise ProxyError(text, error) from error
        assert isinstance(event, (h11.Response, h11.InformationalResponse))
        status = event.status_code
        if isinstance(event, h11.InformationalResponse):
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                text = f"the proxy {self._where} sends more than {_MAX_INTERIM} interim responses"
                raise ProxyError(text, status=status)
            return False
        if status in _OPEN:
            return True
        headers = joined_headers((bytes(name), bytes(value)) for name, value in event.headers)
        text = f"the proxy {self._where} answered with HTTP status {status}: {self._advice(status)}"
        raise ProxyError(text, status=status, headers=headers)

    def _advice(self, status: int) -> str:
        if status == 407:
            return "it does not take these credentials" if self._has_credentials else _WANTED
        return _ADVICE.get(status, _REFUSED)
