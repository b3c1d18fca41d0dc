"""Who may come in, where another server has read the request.

Rules (RFC 6455 section 4.2):

- The checks are those of the native server, in its order: is it an upgrade (405, 426, 400), origin
  (403), host (400); and they are made by the same code.
- Where the other server listens on the loopback alone, as it does behind a proxy of the same
  machine, it answers to the names of this machine unless `allowed_hosts` says otherwise.
- A refusal has a line in the log, and a warning says what would allow a host or an origin.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .._handshakes.server import ServerUpgrade
from .._network.authority import host_of
from .._server.admission import Hosts
from .._server.provenance import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._handshakes.head import Request
    from .._server.settings import Settings

__all__ = ["Gate"]

_MOST_ADDRESSES: Final = 64  # of this machine, whose names are kept


@lru_cache(maxsize=1)
def _provenance() -> Provenance:
    """One for all adapters of the process; made at the first request, once an engine is chosen."""
    return Provenance()


class Gate:
    """Checks requests against what one adapter allows. Safe for any number of threads."""

    def __init__(self, allowed_hosts: Iterable[str] | None = None) -> None:
        """Check what a caller allows.

        Raises:
            TypeError: it is no list of names.
            ValueError: a name cannot be one.
        """
        self._any_address = allowed_hosts is None
        self._hosts = Hosts(allowed_hosts)
        self._of_addresses: dict[str, Hosts] = {}

    def check_upgrade(
        self, head: bytes, request: Request, settings: Settings, local_addr: str
    ) -> ServerUpgrade:
        """Check an upgrade.

        Args:
            head: The request's head.
            request: The same, parsed, with its client.
            settings: What its route allows.
            local_addr: The address that it came to.

        Raises:
            Refused: it may not come in.
        """
        upgrade = ServerUpgrade(head, request)
        self.check_caller(request, settings, local_addr)
        return upgrade

    def check_caller(self, request: Request, settings: Settings, local_addr: str) -> None:
        """Check where an upgrade comes from, and whom it is for.

        Raises:
            Refused: 403 or 400.
        """
        provenance = _provenance()
        provenance.check_upgrade(request, settings.origins)
        provenance.check_host(request, self._hosts_of(local_addr))

    def _hosts_of(self, local_addr: str) -> Hosts:
        if not self._any_address or not local_addr or local_addr.startswith("unix:"):
            return self._hosts
        address = host_of(local_addr)
        known = self._of_addresses.get(address)
        if known is None:
            known = Hosts()
            known.listen_on([], [address])
            if len(self._of_addresses) < _MOST_ADDRESSES:  # pragma: no branch - it has few
                self._of_addresses[address] = known
        return known
