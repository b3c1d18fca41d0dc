"""What a program decides about a request before it is answered: `authorize`, and a subprotocol.

Rules:

- `authorize` is called with the request, and returns None or headers for the answer: then the
  request comes in. Or it returns a Response, which is the answer. Whatever else it returns, and
  what it raises, is a 500: nobody comes in by a mistake of the program.
- It runs on the request's own thread, the one that its handler then runs on; so it may block, and
  holds up nobody else. `decisions` has its deadline.
- Its headers are checked before anything of the answer leaves. What the handshake or the response
  says itself is not for it to say.
- What it returns is not in the log: a text may name a user, headers hold cookies.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from .._fields import check_header, shown
from .._handshakes.head import Refused
from .handlers import check_handler
from .response import Headers, Response, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request

    Authorize = Callable[[Request], Response | Headers]

__all__ = ["FAILED", "LATE", "REFUSED", "Verdict", "ask", "check_authorize", "verdict_of"]

_logger = logging.getLogger("scriptling_ws.server")

REFUSED: Final = "authorize has refused it"
"""Why a request has not come in, for the log."""
FAILED: Final = "authorize has failed"
"""The same, where the program has raised, or returned what it may not."""
LATE: Final = "deciding about this request took too long: try again later"
"""The same, where the time was over before."""

# What the answer to an upgrade says itself, or must not.
_HANDSHAKE: Final = frozenset(
    {
        "content-encoding",
        "date",
        "keep-alive",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "trailer",
        "upgrade",
    }
)


class Verdict(NamedTuple):
    """What was decided.

    Attributes:
        headers: If it comes in, more headers for the answer.
        response: If not, what is answered.
        reason: If not, why, for the log.
        subprotocol: If it comes in, and is an upgrade, the one that is agreed on.
    """

    headers: tuple[tuple[str, str], ...] = ()
    response: Response | None = None
    reason: str = ""
    subprotocol: str | None = None


def check_authorize(function: object) -> Authorize | None:
    """Check what a caller gives as `authorize`: a function, its name, or None.

    Raises:
        TypeError: it cannot be called with the request alone, or nothing of it would run.
        ValueError, ImportError: its name is malformed, or leads nowhere.
    """
    if function is None:
        return None
    return check_handler(function, "request", "authorize function")  # type: ignore[return-value]


def verdict_of(result: object) -> Verdict:
    """What a result of `authorize` means.

    Raises:
        TypeError: it is nothing that it may return.
        ValueError: a header cannot be sent, or is not for it to say.
    """
    if result is None:
        return Verdict()
    if isinstance(result, Response):
        return Verdict(response=result, reason=REFUSED)
    if isinstance(result, (str, bytes)) or not hasattr(result, "__iter__"):
        raise TypeError(
            f"authorize returned {type(result).__name__}: it has to return None or headers to let "
            "the request in, or a response such as runtime.http.text(403, 'not here')"
        )
    headers = Response(200, headers=result).headers  # which checks them
    for name, value in headers:
        check_header(name, value, _HANDSHAKE, "the server")
    return Verdict(headers)


def ask(decide: Callable[[Request], Verdict], request: Request) -> Verdict:
    """Have the program decide about a request. Blocks for as long as that takes.

    What the program raises is a verdict too.
    """
    try:
        return decide(request)
    except Refused as refused:  # by the request itself, such as one with a malformed body
        return Verdict(response=refusal(refused), reason=refused.text)
    except BaseException:
        _logger.exception("deciding about a request for %s failed", shown(request.path))
        failed = Refused(500, "the server failed to decide about this request; its log says why")
        return Verdict(response=refusal(failed), reason=FAILED)
