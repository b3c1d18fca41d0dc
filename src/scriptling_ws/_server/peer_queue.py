"""Peers in the order in which their time is over.

Rule:

- All that are in a queue were given the same time, so the one that came first is the next whose
  deadline passes: only the front is looked at, however many there are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

__all__ = ["PeerQueue"]

_Peer = TypeVar("_Peer")


class PeerQueue(OrderedDict[_Peer, None]):
    """Peers that all have the same time, the one whose deadline is next in front."""

    def add(self, peer: _Peer) -> None:
        """Put one at the end."""
        self[peer] = None

    def discard(self, peer: _Peer) -> None:
        """Take one out, if it is there."""
        self.pop(peer, None)

    def front(self) -> _Peer | None:
        """The one whose deadline is next; None if there is none."""
        return next(iter(self), None)
