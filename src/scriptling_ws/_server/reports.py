"""What the acceptor tells of its peers: to the log of requests, the server's log and the figures.

Rules:

- Who is refused, or closed without an answer, has a line in the log that says why; who
  leaves by itself, as health checks do, has one on the debug level.
- What many peers can cause at once is told rarely.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

from .callers import TurnedAway
from .delivery import TOO_SLOW, BrokenOff
from .log import RareWarnings

if TYPE_CHECKING:
    from .access import AccessLog
    from .figures import Figures
    from .peer import Peer

__all__ = ["Reports"]

_logger = logging.getLogger("scriptling_ws.server")

_LEFT: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # who ends TLS without an error


class Reports:
    """What is told of the peers of one server."""

    def __init__(self, access: AccessLog, figures: Figures) -> None:
        """Tell these two."""
        self._access = access
        self._figures = figures
        self._warnings = RareWarnings(_logger)

    def refused(self, peer: Peer) -> None:
        """A peer gets a refusal."""
        asked, reason = peer.asked(), peer.reason
        self._access.answered(peer.transport, asked, peer.answered, size=peer.size, reason=reason)
        self._figures.refused(peer.answered, reason)

    def unanswered(self, peer: Peer, reason: str) -> None:
        """A peer is closed without an answer."""
        self._access.unanswered(peer.transport, peer.asked(), reason)
        self._figures.refused("-", reason)

    def turned_away(self, address: str, error: TurnedAway) -> None:
        """An address has no business here, or too many connections."""
        self._warnings.give(str(error), "closed %s unanswered: %s", address, error)
        self._figures.refused("-", "too many connections from your address")

    def failed(self, peer: Peer, error: Exception) -> None:
        """Something went wrong with a peer, which is closed."""
        address = peer.transport.remote_addr
        if isinstance(error, TurnedAway):
            self.turned_away(address, error)
        elif isinstance(error, BrokenOff):
            _logger.warning("the answer to %s was broken off: %s", address, error)
        elif isinstance(error, OSError):
            self._lost(peer, error)
        else:
            _logger.error("the handshake with %s failed", address, exc_info=error)

    def too_slow(self, peer: Peer) -> None:
        """An answer is not taken."""
        _logger.info("broke off the answer to %s: %s", peer.transport.remote_addr, TOO_SLOW)

    def _lost(self, peer: Peer, error: OSError) -> None:
        """A peer has left, or its connection has failed."""
        address = peer.transport.remote_addr
        if isinstance(error, ssl.SSLError) and not isinstance(error, _LEFT):
            self.unanswered(peer, f"TLS failed: {error}")
        elif peer.answered:
            _logger.debug("the response to %s was not sent: %s", address, error)
        else:
            _logger.debug("%s left during the handshake: %s", address, error)
