"""Where a redirect leads, and what may go there.

Rules (RFC 9110 sections 10.2.2 and 15.4, RFC 6455 section 4.1):

- Redirects are followed only where `max_redirects` allows them, so many of them within the one
  deadline of `connect`; a loop ends at that number.
- Location may be relative, and may say http or https for ws or wss, as web frameworks write it.
- Never from wss to ws: the server that says so may be nobody that TLS has vouched for from then on.
- Credentials, cookies, a Host header and a `server_hostname` stay with the origin they were given
  for; once left out, they do not come back, even if a redirect leads back there.
- Credentials in the Location are the server's own, and go where it says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import urldefrag, urljoin

from .._errors import HandshakeError, InvalidURL
from .._handshakes.rejection import REDIRECTS
from .._handshakes.url import URL, parse_url
from .._options import check_count

__all__ = ["Trail"]

_NO_URL: Final = "the server redirects to a URL that cannot be used for a WebSocket"
_LOCATION: Final = "location"
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


class Trail:
    """The redirects of one call of `connect`.

    Attributes:
        follows: Whether the next one would be followed.
    """

    __slots__ = ("_left", "_most")

    def __init__(self, most: object) -> None:
        """Follow so many.

        Raises:
            TypeError: it is no int.
            ValueError: it is below 0.
        """
        check_count("max_redirects", most, least=0)
        assert isinstance(most, int)
        self._most = self._left = most

    @property
    def follows(self) -> bool:
        """Whether the next one would be followed."""
        return self._left > 0

    def leads_on(self, refusal: HandshakeError) -> bool:
        """Whether a refusal is a redirect, where redirects are followed."""
        return bool(self._most) and refusal.status in REDIRECTS and _LOCATION in refusal.headers

    def next(self, url: URL, refusal: HandshakeError) -> URL:
        """The URL that a redirect leads to.

        Args:
            url: What was asked for.
            refusal: What came.

        Raises:
            HandshakeError: it is one too many, or leads where none is followed.
        """
        if not self.follows:
            raise _error(
                refusal, f"more than {self._most} redirects: raise max_redirects to follow more"
            )
        self._left -= 1
        return _target(url, refusal.headers[_LOCATION], refusal)


def _target(url: URL, location: str, refusal: HandshakeError) -> URL:
    base = f"{'https' if url.secure else 'http'}://{url.host_header}{url.target}"
    try:
        # Fields are Latin-1 here, and what is not ASCII in a Location is most often UTF-8.
        text = location.encode("latin-1").decode("utf-8", "replace")
        whole, _ = urldefrag(urljoin(base, text))
        scheme, colon, rest = whole.partition(":")
        target = parse_url(f"{_SCHEMES.get(scheme.lower(), scheme)}{colon}{rest}")
    except InvalidURL as error:
        raise _error(refusal, _NO_URL) from error
    except ValueError:  # which may quote a password
        raise _error(refusal, _NO_URL) from None
    if target.unix is not None:
        raise _error(refusal, "the server redirects to a Unix socket, which is not followed")
    if url.secure and not target.secure:
        raise _error(
            refusal, "the server redirects from wss:// to ws://, without TLS: not followed"
        )
    if target.credentials is None and target.origin == url.origin:
        return replace(target, credentials=url.credentials)
    return target


def _error(refusal: HandshakeError, text: str) -> HandshakeError:
    return HandshakeError(text, refusal.status, refusal.headers, refusal.body)
