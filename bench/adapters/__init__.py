"""The libraries that are measured, each behind the same few methods.

`base` says what the methods do.  A library is imported when it is measured, in the
process that measures it; one that cannot be imported is skipped by name.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .base import Adapter

FLOOR = "floor"
OURS = "scriptling-ws"
PURE = "scriptling-ws (pure)"


@dataclass(frozen=True)
class Library:
    """One column of the tables."""

    name: str
    module: str  # in this package
    adapter: str  # the class in that module
    package: str  # what has to be importable
    distribution: str | None  # whose version is reported
    blocking: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> bool:
        """Whether the package is not there."""
        return importlib.util.find_spec(self.package) is None

    def load(self) -> type[Adapter]:
        """The adapter, which imports the library."""
        module = importlib.import_module(f"{__name__}.{self.module}")
        adapter: type[Adapter] = getattr(module, self.adapter)
        return adapter


LIBRARIES = {
    library.name: library
    for library in (
        Library(FLOOR, "floor", "BareSocket", "socket", None),
        Library(OURS, "blocking", "Scriptling", "scriptling_ws", "scriptling-ws"),
        Library(
            PURE,
            "blocking",
            "Scriptling",
            "scriptling_ws",
            "scriptling-ws",
            environment={"SCRIPTLING_WS_PURE": "1"},
        ),
        Library("websocket-rs", "blocking", "WebSocketRs", "websocket_rs", "websocket-rs"),
        Library("picows", "picows_client", "Picows", "picows", "picows", blocking=False),
        Library("websockets.sync", "blocking", "Websockets", "websockets", "websockets"),
        Library("websocket-client", "blocking", "WebSocketClient", "websocket", "websocket-client"),
        Library(
            "simple-websocket",
            "blocking",
            "SimpleWebSocket",
            "simple_websocket",
            "simple-websocket",
        ),
        Library("aiohttp", "aiohttp_client", "Aiohttp", "aiohttp", "aiohttp", blocking=False),
        Library(
            "websocket-rs (asyncio)",
            "websocket_rs_client",
            "WebSocketRsAsyncio",
            "websocket_rs",
            "websocket-rs",
            blocking=False,
        ),
    )
}
PEERS = [name for name in LIBRARIES if name not in (FLOOR, OURS, PURE)]
