"""A request that arrives: what decides about it, what it is when it is complete.

Rules (RFC 9110, RFC 9112):

- A body has to announce its length, and has a limit; both are known before a byte of it is kept.
- One that announces a length and a coding too is an attack, or a mistake (RFC 9112 section 6.1):
  two readers would find two ends of it. It is refused, as is any coding.
- `Expect: 100-continue` gets its 100 only where a body is wanted and still to come; of other
  expectations none can be met (417). HTTP/1.0 has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

from .._handshakes.head import Refused, Request, is_http_1_0
from .._options import DEFAULT_HEADS
from .access import Asked
from .http import SAFE_HEADERS, Manner
from .persistence import KeepAlive
from .root_path import RootPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.deadline import Deadline
    from .._network.transport import Transport
    from .._options import HeadLimits
    from .limits import Place
    from .persistence import Sequel

    Admit = Callable[[bytes, Request], "Admitted"]

__all__ = ["Admitted", "Arrival", "PeerOptions", "awaits_continue", "body_length"]


_BODY: Final = frozenset({"content-length", "transfer-encoding"})


@dataclass(frozen=True)
class PeerOptions:
    """What holds for every peer of a server.

    Attributes:
        heads: How long a request's head may be.
        max_body_size: The most bytes that the body of a page's request may have.
        keep_alive: How connections go on after an answer.
        root_path: What stands before the paths of requests.
        headers: What every answer has that does not have its own.
        allows_host: Whether a request may come by a Host header.
    """

    heads: HeadLimits = DEFAULT_HEADS
    max_body_size: int = 65_536
    keep_alive: KeepAlive = field(default_factory=KeepAlive)
    root_path: RootPath = field(default_factory=RootPath)
    headers: tuple[tuple[str, str], ...] = SAFE_HEADERS
    allows_host: Callable[[str | None], bool] = lambda _: True


class Admitted(Interface):
    """A request that may come in: what it is, and what answers it. It never changes."""

    @property
    def kind(self) -> str | None:
        """What it is counted as, of those in `limits`; None for nothing but a connection."""

    def start(self, arrival: Arrival) -> None:
        """Take the complete request over. Does not block.

        Args:
            arrival: The request; from now on its transport and its place are taken over.

        Raises:
            Refused: nothing was started, and all of the arrival is still the caller's.
        """


@dataclass(slots=True)
class Arrival:
    """A complete request and the transport that it came on. It never changes.

    (Not frozen: that would store each of these by a call.)

    Attributes:
        transport: Whoever takes the arrival over closes it.
        place: Its place among the limits; whoever takes the arrival over leaves it.
        request: The request, its body included.
        rest: What came after it.
        deadline: When the opening handshake has to be over.
        since: When it was accepted, by `Figures.now`.
        version: The version of HTTP, for the log.
        headers: What every answer has that does not have its own.
        sequel: How the connection goes on after the answer; None if it ends.
    """

    transport: Transport
    place: Place
    request: Request
    rest: bytes
    deadline: Deadline
    since: float = 0.0
    version: str = "HTTP/1.1"
    headers: tuple[tuple[str, str], ...] = SAFE_HEADERS
    sequel: Sequel | None = None

    @property
    def manner(self) -> Manner:
        """How its answer goes out."""
        return Manner(self.request.secure, self.request.root_path, self.headers)

    @property
    def asked(self) -> Asked:
        """What was asked, for the log."""
        return Asked.of(self.request, self.version)


def body_length(request: Request, most: int) -> int:
    """The length of a request's body.

    Args:
        request: The request.
        most: The limit, max_body_size.

    Raises:
        Refused: 411, 413; 400 if what is announced is no length, or is that and a coding.
    """
    if _BODY.isdisjoint(request.headers):
        return 0
    if "transfer-encoding" in request.headers:
        if "content-length" in request.headers:
            raise Refused(400, "a body has a Content-Length or a Transfer-Encoding, not both")
        raise Refused(411, "send the body with a Content-Length")
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):  # pragma: no cover - h11 has refused it
        raise Refused(400, "Content-Length is malformed")
    digits = announced.lstrip("0")[:20] or "0"  # more than any limit, whatever follows
    if (length := int(digits)) > most:
        raise Refused(413, f"the body has more than the {most} bytes of max_body_size")
    return length


def awaits_continue(head: bytes, request: Request) -> bool:
    """Whether the client sends its body once it is told to (RFC 9110 section 10.1.1).

    Raises:
        Refused: 417, it expects something else.
    """
    if "expect" not in request.headers or is_http_1_0(head):
        return False
    expected = {part.strip(" \t").lower() for part in request.headers["expect"].split(",")} - {""}
    if expected - {"100-continue"}:
        raise Refused(417, "of Expect only 100-continue can be met: leave the rest out")
    return bool(expected)
