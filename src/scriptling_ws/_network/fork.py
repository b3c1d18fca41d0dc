"""What a forked child does about the connections and servers that it inherits.

Rules:

- A child shares its parent's sockets, and one byte or one shutdown of its own would spoil
  the parent's stream. So in the child the descriptors are closed, which the parent does
  not notice, and the objects are marked: see each `_after_fork`.
- A lock may be held, at the fork, by a thread that the child does not have: locks are made
  anew. What such a thread was changing is not used any more.
- Each object is told, whatever another one raises.
- The kernel is told first, or what is closed here would leave the gate that is still the parent's.
- No thread goes on in a child but the one that forked: a server is over there.

Where there is no fork, nothing here does anything.
"""

from __future__ import annotations

import logging
import os
from typing import Final, Protocol
from weakref import ref

from .. import _kernel  # noqa: F401 - those told in a child are told in the order of registration

__all__ = ["tell_after_fork"]


_logger: Final = logging.getLogger("scriptling_ws.fork")


class _Inherited(Protocol):
    def _after_fork(self) -> None: ...


# Not a WeakSet, which is Python code that each connection would run several times.
_objects: set[ref[_Inherited]] = set()
_discard: Final = _objects.discard  # one for all: each look for it would make another


def tell_after_fork(inherited: _Inherited) -> None:
    """Call the object's `_after_fork` in every child that is forked while it lives."""
    _objects.add(ref(inherited, _discard))


def _tell() -> None:
    for reference in list(_objects):
        inherited = reference()
        if inherited is None:
            continue
        try:
            inherited._after_fork()
        except Exception:  # such as a descriptor that another thread was just closing
            _logger.exception("what was inherited could not be closed after a fork")


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_tell)
