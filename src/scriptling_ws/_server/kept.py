"""Peers that were answered and may ask again: they wait here, in the order of their deadlines.

Rules:

- A peer that waits gives way: the one that has waited longest goes, as others need descriptors; and
  of an address the same, as others come from it. Its client asks again by another connection (RFC
  9112 section 9.5), which browsers and proxies do by themselves.
- For the acceptor's thread alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from .._network.deadline import Deadline
from .peer_queue import PeerQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from .peer import Peer
    from .persistence import KeepAlive

__all__ = ["Kept"]


class Kept(PeerQueue["Peer"]):
    """The peers of one server that wait to ask again."""

    def __init__(self, keep_alive: KeepAlive, most: int, drop: Callable[[Peer], None]) -> None:
        """Begin with none.

        Args:
            keep_alive: How long each may wait.
            most: How many may wait.
            drop: Closes one; it has to `discard` it here.
        """
        super().__init__()
        self._keep_alive = keep_alive
        self._most = most
        self._drop = drop
        self._groups: dict[Peer, str | None] = {}
        self._of_group: dict[str | None, OrderedDict[Peer, None]] = {}

    def add(self, peer: Peer) -> None:
        """Have one wait from now on."""
        if len(self) >= self._most:
            self.give_way()
        peer.deadline = Deadline(self._keep_alive.timeout)
        super().add(peer)
        group = self._groups[peer] = peer.place.group  # None for a proxy's, which is nobody's
        self._of_group.setdefault(group, OrderedDict())[peer] = None

    def discard(self, peer: Peer) -> None:
        """Take one out, if it is there."""
        super().discard(peer)
        if peer in self._groups:
            group = self._groups.pop(peer)
            del self._of_group[group][peer]
            if not self._of_group[group]:
                del self._of_group[group]

    def give_way(self) -> bool:
        """Close the one that has waited longest; False if there is none."""
        return self._end(self.front())

    def give_way_of(self, group: str) -> bool:
        """The same among those of an address, by its `limits.address_group`."""
        return self._end(next(iter(self._of_group.get(group, ())), None))

    def expire(self) -> None:
        """Close those whose time is over."""
        while (peer := self.front()) is not None and peer.deadline.passed():
            self._end(peer)

    def close(self) -> None:
        """Close all, and take no more: the server ends."""
        self._keep_alive.ended = True
        while self.give_way():
            pass

    def _end(self, peer: Peer | None) -> bool:
        if peer is None:
            return False
        peer.finish()
        self._drop(peer)
        return True
