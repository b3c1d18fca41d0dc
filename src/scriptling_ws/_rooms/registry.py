"""The rooms of this process, by name: what `room` gives.

Rules:

- One name, with one backend, is one room. It lives while somebody has it or it has members.
- Its options are those of the call that has made it. A later call may leave them out; others than
  those it has are refused, rather than passed over.
- A backend is one for each address, and is made when a room first asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from .._functions import check_runs
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .carrier import only_with_backend, refuse_alone
from .member import Limits
from .room import Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from .member import Policy
    from .redis import Redis

__all__ = ["only_with_backend", "room", "rooms"]

_SCHEMES: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


class _Registry:
    """The rooms, and the backends. Guarded by its lock."""

    def __init__(self) -> None:
        self.rooms: WeakValueDictionary[tuple[str, str | None], Room] = WeakValueDictionary()
        self.backends: dict[str, Redis] = {}
        self._after_fork()
        tell_after_fork(self)

    def _after_fork(self) -> None:
        self.lock = engine().rlock()

    def backend(self, address: str) -> Redis:
        """The backend at an address. Holds the lock."""
        found = self.backends.get(address)
        if found is None:
            from .redis import Redis  # which needs redis-py

            found = self.backends[address] = Redis(address)
        return found


_registries: dict[str, _Registry] = {}  # the one; made at the first use, as it asks for the engine


def _the_registry() -> _Registry:
    """The process's registry."""
    # setdefault: of two threads that come here first, both get the same one.
    return _registries.get("") or _registries.setdefault("", _Registry())


def room(
    name: str,
    *,
    backend: str | None = None,
    queue: int | None = None,
    queue_bytes: int | None = None,
    policy: Policy | None = None,
    on_gap: Callable[[Room, float], object] | None = None,
) -> Room:
    """The room of a name: connections that get the same messages.

    The same name gives the same room, from any thread. Does not block.

    Args:
        name: Its name.
        backend: Where processes share its messages: the URL of a Redis or Valkey server, such as
            `"redis://127.0.0.1:6379"` (`rediss://` with TLS, `unix:///path` for a socket). None for
            a room of this process alone. It needs redis-py:
            `pip install "scriptling-ws[redis]"`.
        queue: The most messages that wait for a member that does not read (default 256).
        queue_bytes: The most bytes of them (default 1 MiB); one message is kept whatever its size.
        policy: What becomes of a member with a full queue: "close" (the default) closes its
            connection with 1013, "drop_oldest" and "drop_newest" drop messages and count them
            (`Room.dropped`).
        on_gap: Called with the room and the seconds for which the backend was away, once it is
            back: messages may have been missed. By the task that receives from the backend, so it
            has to return soon. The log has a warning in any case.

    Returns:
        The room. Options that were given when it was made need not be given again.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an option is out of its range, the URL is none of a known kind, or the room is
            there with other options.
        ImportError: the backend needs redis-py.
        RuntimeError: there are several processes, and no backend.
    """
    if not isinstance(name, str):
        raise TypeError(f"a room's name has to be a str, not {type(name).__name__}")
    if not (backend is None or (isinstance(backend, str) and backend.startswith(_SCHEMES))):
        # Not the whole of it: there may be a password in it.
        begins = backend.partition(":")[0] if isinstance(backend, str) else type(backend).__name__
        raise ValueError(
            f"backend has to be a URL such as 'redis://127.0.0.1:6379', or None, not {begins!r}"
        )
    if not (on_gap is None or callable(on_gap)):
        raise TypeError(f"on_gap has to be a function, not {type(on_gap).__name__}")
    check_runs(on_gap, "on_gap")
    refuse_alone(name, backend)
    options = {"queue": queue, "queue_bytes": queue_bytes, "policy": policy}
    given = {option: value for option, value in options.items() if value is not None}
    registry = _the_registry()
    with registry.lock:
        found = registry.rooms.get((name, backend))
        if found is None:
            limits = Limits(**given)  # type: ignore[arg-type]  # it checks them
            carrier = None if backend is None else registry.backend(backend)
            found = registry.rooms[name, backend] = Room(name, limits, carrier, on_gap)
        else:
            found.check(given, on_gap)
        return found


def rooms() -> list[Room]:
    """The rooms that there are: for the server's metrics. Thread-safe."""
    registry = _the_registry()
    with registry.lock:
        return list(registry.rooms.values())
