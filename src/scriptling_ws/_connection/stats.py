"""What has moved on a connection, and when: `Connection.stats`.

Rules:

- Each message is counted once: by the kernel's channel and its window, or else by a `Tally`. This
  file adds them up. It takes no lock, so one figure may be a message ahead of another one.
- When bytes last moved is what the system's kernel says (TCP_INFO). Where it does not, the channel
  looks at the clock for each of its calls (`Channel.timed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from .._network.pulse import read_pulse

if TYPE_CHECKING:
    from .link import Link

__all__ = ["ConnectionStats", "MessageStats", "stats_of"]


@dataclass(frozen=True, kw_only=True)
class MessageStats:
    """The messages of a connection so far, and when something moved.

    Attributes:
        messages_received: The messages that have come, received by the program or not.
        messages_sent: The messages that `send` and its like have sent.
        bytes_received: The bytes of the messages that have come: of a text those in UTF-8, of a
            compressed message those before compression.
        bytes_sent: The same of those that were sent.
        seconds_open: For how long the connection has been open, or was.
        seconds_since_received: For how long nothing has come. What comes in parts counts, and so do
            control frames.
        seconds_since_sent: For how long nothing has been sent.
    """

    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    seconds_open: float
    seconds_since_received: float
    seconds_since_sent: float


@dataclass(frozen=True, kw_only=True)
class ConnectionStats(MessageStats):
    """What has moved on a connection so far: `Connection.stats` returns it.

    Attributes:
        messages_received: The messages that have come, received by the program or not. One that has
            not come to its end is not counted, nor is one that comes after this end's close.
        messages_sent: The messages that `send` and its like have sent.
        bytes_received: The bytes of the messages that have come: of a text those in UTF-8, of a
            compressed message those before compression.
        bytes_sent: The same of those that were sent.
        seconds_open: For how long the connection has been open, or was: from the end of the opening
            handshake until its socket was closed.
        seconds_since_received: For how long nothing has come. What comes in parts counts, and so do
            control frames. On Linux TCP says it, to some milliseconds.
        seconds_since_sent: For how long nothing has been sent. What TCP sends once more counts.
        wire_received: The bytes that have come since the opening handshake, headers of frames and
            control frames among them; without those of TLS and TCP.
        wire_sent: The bytes of the frames that were sent, control frames among them.
        frames_received: The frames of the messages that have come, and control frames.
        frames_sent: The same of those that were sent.
        pings_received: The pings that have come.
        pings_sent: The pings that were sent, by `ping` and by keepalive.
        pongs_received: The pongs that have come.
        pongs_sent: The pongs that were sent. To several pings that have come together only the last
            ones may be answered: see max_pending_pongs.
        compression_received: How many bytes one byte of the compressed messages that have come
            stood for, such as 4.0; None before the first.
        compression_sent: The same of those that were sent.
        latency: The seconds between the latest answered ping and its answer, `ping`'s or
            keepalive's; None before the first.
        latency_least: The least that there was; None before the first.
        latency_mean: The mean of all that there were; None before the first.
    """

    wire_received: int
    wire_sent: int
    frames_received: int
    frames_sent: int
    pings_received: int
    pings_sent: int
    pongs_received: int
    pongs_sent: int
    compression_received: float | None
    compression_sent: float | None
    latency: float | None
    latency_least: float | None
    latency_mean: float | None


def stats_of(link: Link) -> ConnectionStats:
    """What has moved on a link so far. Thread-safe, and does not block."""
    channel, window, pings = link.channel, link.protocol.window, link.pings
    come, gone = link.protocol.unreceived.tally, link.unsent.tally
    since_received, since_sent = _quiet(link)
    over = link.over
    answered = pings.answered
    return ConnectionStats(
        messages_received=window.received + come.messages,
        messages_sent=channel.sent + gone.messages,
        bytes_received=window.payload + come.payload,
        bytes_sent=channel.payload + gone.payload,
        seconds_open=(monotonic() if over is None else over.moment) - link.opened,
        seconds_since_received=since_received,
        seconds_since_sent=since_sent,
        wire_received=window.wire + come.wire,
        wire_sent=channel.wire + gone.wire,
        frames_received=window.received + come.frames,
        frames_sent=channel.sent + gone.frames,
        pings_received=come.pings,
        pings_sent=gone.pings,
        pongs_received=come.pongs,
        pongs_sent=gone.pongs,
        compression_received=_ratio(come.original, come.deflated),
        compression_sent=_ratio(channel.original + gone.original, channel.deflated + gone.deflated),
        latency=pings.latency,
        latency_least=pings.least,
        latency_mean=pings.total / answered if answered else None,
    )


def _ratio(original: int, deflated: int) -> float | None:
    return original / deflated if deflated else None


def _quiet(link: Link) -> tuple[float, float]:
    """For how many seconds nothing has come, and nothing has gone."""
    pulse, now = link.transport.pulse(), monotonic()
    # Asked for after that: the pulse of a descriptor that is closed meanwhile is another's.
    over, since = link.over, 0.0
    if over is not None:
        pulse, since = read_pulse(over.info), now - over.moment
    if pulse is not None:
        return since + pulse.received_ago, since + pulse.sent_ago
    # The opening handshake has moved something, too.
    channel, opened = link.channel, link.opened
    return now - max(channel.came, opened), now - max(channel.went, opened)
