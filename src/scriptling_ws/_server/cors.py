"""Pages of other origins: what their scripts may read of a page here, and what they may change.

Rules (the Fetch standard, "CORS protocol"; RFC 6454):

- Without `cors=` a script of another origin may read nothing, as browsers have it by default.
- An origin that is named may read, and its requests may come with the user's cookies, as those of
  the own host do: who is named is trusted. "*" is for what anybody may read: without cookies.
- What may change something (any method but GET, HEAD and OPTIONS) is refused from an origin that is
  neither the own host's nor in `cors`: a browser sends any page's form to any server, with the
  user's cookies. Programs send no Origin and pass. It is the check that upgrades have.
- A preflight asks by OPTIONS whether a request may be made, and comes without cookies: it is
  answered before anybody is asked to authorize. Which headers it names is not for this server to
  judge: the handler that gets them does. The answer allows the method that was asked for alone: the
  path's other methods may have another `cors=`, and a browser remembers what it was told.
- An answer that differs by origin says so (Vary), or a cache would give it to another one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from .admission import Origins

if TYPE_CHECKING:
    from .._handshakes.head import Request

__all__ = ["ASKED_METHOD", "SAFE", "Cors"]

SAFE: Final = ("GET", "HEAD", "OPTIONS")
"""The methods that change nothing (RFC 9110 section 9.2.1)."""

ASKED_METHOD: Final = "access-control-request-method"
"""The header that makes OPTIONS a preflight: the method of the request that is to follow."""

_MAX_AGE: Final = "600"  # seconds for which a browser need not ask again

_Headers = tuple[tuple[str, str], ...]
_VARY: Final[_Headers] = (("Vary", "Origin"),)


class Cors:
    """Which origins' scripts may use one page."""

    __slots__ = ("_any", "_named", "_origins")

    def __init__(self, origins: object = None) -> None:
        """Check what a caller allows.

        Args:
            origins: None for the own host only; "*" for any, without cookies; or a list of
                origins, such as `["https://app.example"]`.

        Raises:
            TypeError: it is neither None, "*" nor a list of str.
            ValueError: an entry can never match, or the list is empty.
        """
        if isinstance(origins, Collection) and not origins:
            raise ValueError("cors is empty, which allows nothing: leave it out")
        self._origins = Origins(origins, "cors")
        self._any = self._origins.any
        self._named = origins is not None and not self._any

    def allows(self, request: Request) -> bool:
        """Whether a request may change something, as far as its origin decides about that."""
        origin = request.headers.get("origin")
        if origin is None or request.method in SAFE:
            return True
        host = request.headers.get("host", "")
        return self._origins.allow(origin, host, secure=request.secure)

    def advice(self, origin: str) -> str:
        """For the log: what allows an origin that was refused."""
        return self._origins.advice(origin)

    def headers(self, request: Request) -> _Headers:
        """What an answer has to say, so that a script may read it."""
        if self._any:
            return (("Access-Control-Allow-Origin", "*"),)
        if not self._named:
            return ()
        origin = request.headers.get("origin")
        if origin is None or not self._origins.has(origin):
            return _VARY
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            *_VARY,
        )

    def preflight(self, request: Request) -> _Headers:
        """What the answer to a preflight has to say.

        Args:
            request: The preflight, which asks for a method of this page.
        """
        headers = self.headers(request)
        if not headers or headers == _VARY:
            return headers
        asked = request.headers.get("access-control-request-headers")
        return (
            *headers,
            ("Access-Control-Allow-Methods", request.headers[ASKED_METHOD]),
            *((("Access-Control-Allow-Headers", asked),) if asked else ()),
            ("Access-Control-Max-Age", _MAX_AGE),
        )
