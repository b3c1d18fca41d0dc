"""Who takes part: a line for each server, in the order of the tables' columns."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..adapters import OURS
from ..targets import label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BARE = "bare threads"
BARE_GEVENT = "bare gevent"


@dataclass(frozen=True)
class Contestant:
    """A server."""

    library: str
    adapter: str  # the module in bench/server/adapters
    package: str  # what has to be importable
    way: str = ""  # where the library has several: which engine carries the handlers
    raw: bool = False  # it knows no frames
    most: int | None = None  # active connections that it is tried with
    work: str = ""  # what alone it takes part in
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name in the results."""
        return label(self.library, self.way)

    def missing(self) -> bool:
        """Whether the package is not there."""
        return importlib.util.find_spec(self.package) is None

    def load(self) -> Callable[[Callable[[int], None]], None]:
        """The adapter's `serve`; this imports the library."""
        module = importlib.import_module(f"{__package__}.adapters.{self.adapter}")
        serve: Callable[[Callable[[int], None]], None] = module.serve
        return serve


CONTESTANTS = {
    contestant.label: contestant
    for contestant in (
        Contestant(BARE, "bare_threads", "socket", raw=True),
        Contestant(OURS, "scriptling", "scriptling_ws", "threads"),
        Contestant(OURS, "scriptling_gevent", "gevent", "gevent"),
        Contestant(BARE_GEVENT, "bare_gevent", "gevent", work="opens"),
        # Of 4,000 it had not answered 3,278 after a minute, in which it kept both cores busy.
        Contestant("websockets.sync", "websockets_sync", "websockets", most=1000),
        Contestant("picows", "picows_server", "picows"),
    )
}

DISTRIBUTIONS = (OURS, "websockets", "picows", "uvloop", "aiofastnet", "gevent", "wsproto", "h11")
"""Whose versions matter."""
