"""picows, through its core API: a listener whose method is called for each frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import picows

from ...adapters.event_loop import EventLoop

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSE = picows.WSMsgType.CLOSE


class Echo(picows.WSListener):
    """Sends every message back, and completes the closing handshake."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Answer a frame, which is valid during the call alone."""
        if frame.msg_type == CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def _serve(announce: Callable[[int], None]) -> None:
    server = await picows.ws_create_server(lambda _: Echo(), "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def serve(announce: Callable[[int], None]) -> None:
    """Serve, on uvloop if that is installed."""
    EventLoop().run(_serve(announce))
