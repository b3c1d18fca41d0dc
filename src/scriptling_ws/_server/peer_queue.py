"""Peers in the order in which their time is over.

Rule:

- All that are in a queue were given the same time, so the one that came first is the next whose
  deadline passes: only the front is looked at, however many there are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["PeerQueue"]

_Peer = TypeVar("_Peer")


class PeerQueue(Generic[_Peer]):
    """Peers that all have the same time, the one whose deadline is next in front."""

    def __init__(self) -> None:
        self._peers: OrderedDict[_Peer, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, peer: _Peer) -> None:
        """Put one at the end."""
        self._peers[peer] = None

    def discard(self, peer: _Peer) -> None:
        """Take one out, if it is there."""
        self._peers.pop(peer, None)

    def front(self) -> _Peer | None:
        """The one whose deadline is next; None if there is none."""
        return next(iter(self._peers), None)
