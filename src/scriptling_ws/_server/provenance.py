"""Where a request comes from, and whom it is for: the checks of Origin and Host.

Rules:

- What may come is said in `admission`; who asks here gets a refusal (403, 400) and, once in a
  while, a warning that says what would allow it.
- Data from a request goes to the log in ASCII with escapes, never as it came.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._fields import shown
from .._handshakes.refused import Refused
from .admission import NO_SUCH_HOST, Hosts
from .log import RareWarnings

if TYPE_CHECKING:
    from .._handshakes.request import Request
    from .admission import Origins

__all__ = ["Provenance"]

_logger = logging.getLogger("scriptling_ws.server")


class Provenance:
    """Checks requests; what it keeps is of its warnings. Safe for any number of threads."""

    def __init__(self) -> None:
        self._hosts = RareWarnings(_logger)
        self._origins = RareWarnings(_logger)

    def check_upgrade(self, request: Request, origins: Origins) -> None:
        """Check the origin of an upgrade.

        Raises:
            Refused: 403.
        """
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and not origins.allow(origin, host, secure=request.secure):
            self.warn_of_origin(request, "an upgrade of", origin, origins.advice(origin))
            raise Refused(403, "this origin may not connect")

    def check_host(self, request: Request, hosts: Hosts) -> None:
        """Check the name by which a request comes, if it has one.

        Raises:
            Refused: 400.
        """
        host = request.headers.get("host")
        if host is None or hosts.allow(host):
            return
        self._hosts.give(
            shown(host),
            "refused %s: a request for %s by the name %s in its Host header; %s",
            request.remote_addr,
            shown(request.path),
            shown(host),
            Hosts.advice(host),
        )
        raise Refused(400, NO_SUCH_HOST)

    def warn_of_origin(self, request: Request, asked: str, origin: str, advice: str) -> None:
        """Say once in a while, for each origin, how to allow it."""
        self._origins.give(
            shown(origin),
            "refused %s: %s %s from the origin %s; %s",
            request.remote_addr,
            asked,
            shown(request.path),
            shown(origin),
            advice,
        )
