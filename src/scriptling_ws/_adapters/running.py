"""A handler's run, and its lines in the log.

Rules:

- What a handler's end means is what it means to the native server: it returns, close 1000; it
  raises, log with the traceback and close 1011; its connection has closed under it, no error.
- What ends the thread or the greenlet itself (SystemExit, gevent's GreenletExit) closes with 1001
  and goes on to the server that has asked for it.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from .._codes import CloseCode
from .._functions import check_handled
from .._server.authorization import Verdict, ask
from .._server.log import log_answer, log_closed, log_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Refused, Request
    from .._server.settings import Settings

__all__ = ["decide", "log_refusal", "run_handler"]


def decide(request: Request, settings: Settings, offered: list[str]) -> Verdict:
    """Have the program decide about an upgrade, by `authorize`. Blocks as long as that does."""
    if not settings.asks:
        return Verdict(subprotocol=settings.choose_subprotocol(offered))
    return ask(lambda asked: settings.decide(asked, offered), request)


def run_handler(handler: Callable[[Any], object], client: Any, request: Request) -> None:
    """Call a handler, and close its connection. Blocks for the connection's life.

    Args:
        handler: The handler.
        client: The connection.
        request: What it came by.
    """
    path, address = request.path, request.remote_addr
    since = monotonic()
    code = CloseCode.INTERNAL_ERROR
    try:
        log_answer(address, request.method, path, 101)
        check_handled(handler(client))
        code = CloseCode.NORMAL
    except Exception as error:  # noqa: BLE001  # whatever the program raises
        log_failure(address, path, error, client.close_code)
    except BaseException:
        code = CloseCode.GOING_AWAY
        raise
    finally:
        client.close(code)
        log_closed(address, path, client.close_code, monotonic() - since)


def log_refusal(request: Request | None, refused: Refused) -> None:
    """Log that an upgrade was refused, and why."""
    if request is None:
        log_answer("-", "-", "-", refused.status, refused.text)
    else:
        log_answer(request.remote_addr, request.method, request.path, refused.status, refused.text)
