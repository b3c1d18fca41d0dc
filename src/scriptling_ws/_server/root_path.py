"""The path below which clients see a server: what proxies put before its own.

Rules:

- A proxy that takes a prefix off the path says which, by X-Forwarded-Prefix (`proxies`). One that
  passes the path on as it came leaves that to the server: `root_path`. There is no guess between
  the two: with `root_path` every request has to come with it, so that a path is never shortened
  twice, and what the proxy's rules have decided about it holds.
- The server's own pages for balancers and Prometheus, who ask it directly, are also where they
  are without it.
- A prefix has plain characters alone, so that it is the same in a URL and decoded; it begins with
  one slash, as two would begin a host, and ends with none. It has no semicolon, which would end the
  Path of a cookie, and no comma, by which proxies make a list of several.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .._handshakes.refused import Refused
from .._handshakes.request import revised

if TYPE_CHECKING:
    from collections.abc import Collection

    from .._handshakes.request import Request

__all__ = ["RootPath", "is_root_path"]

_MARKS: Final = "._~!$&'()*+=:@-"
_SEGMENT: Final = rf"/(?!\.\.?(?:/|\Z))[A-Za-z0-9{_MARKS}]+"
_ROOT_PATH = re.compile(f"(?:{_SEGMENT})+")
_LONGEST: Final = 256


def is_root_path(text: str) -> bool:
    """Whether a text may be a prefix of paths."""
    return len(text) <= _LONGEST and _ROOT_PATH.fullmatch(text) is not None


class RootPath:
    """What stands before the paths of one server's requests, and is taken off here."""

    __slots__ = ("_outside", "_segments", "path")

    def __init__(self, path: object = "", outside: Collection[str] = ()) -> None:
        """Check what a caller gives.

        Args:
            path: Such as "/app"; "" for nothing.
            outside: The paths that are also found without it.

        Raises:
            TypeError: it is no str.
            ValueError: it is no path, or has characters that URLs encode.
        """
        if not isinstance(path, str):
            raise TypeError(f"root_path has to be a str, not {type(path).__name__}")
        if path and not is_root_path(path):
            raise ValueError(
                "root_path has to be a path such as '/app', with letters, digits and "
                f"{_MARKS} in it and no slash at its end, not {path!r}"
            )
        self.path: str = path
        self._segments = path.count("/")
        self._outside = frozenset(outside)

    def enter(self, request: Request) -> Request:
        """A request as it is below the prefix.

        Args:
            request: As it came; `root_path` is what a proxy has taken off it.

        Raises:
            Refused: 404, it is not below the prefix; 307, it is that without its slash.
        """
        if not self.path:
            return request
        path = request.path
        if path in self._outside:
            return request
        if path != self.path and not path.startswith(f"{self.path}/"):
            raise Refused(404, "there is nothing at this path")
        raw, mark, query = request.target.partition("?")
        if path == self.path and "upgrade" not in request.headers:
            # Relative links of what is at "/app/" would lead beside it from "/app".
            location = f".{self.path[self.path.rindex('/') :]}/{mark}{query}"
            raise Refused(307, f"ask for {self.path}/", [("Location", location)])
        # Segment by segment: what is encoded in the target is longer there.
        rest = "/".join(raw.split("/")[self._segments + 1 :])
        below = path[len(self.path) :]
        return revised(
            request,
            path=below or "/",
            target=f"/{rest}{mark}{query}",
            root_path=request.root_path + self.path,
        )
