"""Protocol without a socket: what the tests of it share, compressed bytes included."""

import functools
import threading
import zlib

from memory import tracemalloc
from pairs import MIB
from scriptling_ws import _kernel as kernel
from scriptling_ws._wire.incoming import Protocol

ALL = 10**9  # as a step: in one piece


def protocol(*, client=True, as_list=False, limit=16 * MIB, fragments=131_072, deflate=None):
    """A protocol; `deflate`: the terms of compression, as if they had been agreed on."""
    return Protocol(
        client=client,
        as_list=as_list,
        max_message_size=limit,
        max_fragments=fragments,
        deflate=deflate,
    )


def feed(proto, data, step=ALL):
    """Feed bytes, at most `step` at a time, each into what space() gives out.

    An error that is put off comes out, too, as for a reader that has taken every message.
    """
    view = memoryview(data)
    while view:
        space = memoryview(proto.space())
        count = min(step, len(space), len(view))
        assert count, "no space"
        space[:count] = view[:count]
        view = view[count:]
        proto.feed(count)
    if proto.window.unfed is not None:
        proto.feed(proto.window.unfed)


def fed_until_ended(proto, burst, count, *, measured=True):
    """Feed the same frames until there is an end: how many they were, and the most memory.

    Measured, it takes several times as long; else the memory is 0.
    """
    fed = 0
    if measured:
        tracemalloc.start()
    try:
        while not proto.ended:
            feed(proto, burst)
            fed += count
        return fed, tracemalloc.get_traced_memory()[1]
    finally:
        if measured:
            tracemalloc.stop()


class Received:
    """A stream from which a channel receives by a function, and the reader of its rest."""

    descriptor = None
    session = None
    naps = pending = False
    parking = None
    send = None
    send_flags = 0

    def __init__(self, receive):
        self.receive = receive


class Elsewhere:
    """A reader for whom there is nothing to do here."""

    @staticmethod
    def seconds(timeout):
        return timeout

    @staticmethod
    def receive(*_):
        return None


def channel_receive(proto, receive):
    """The message that a channel receives in one call of `receive`; None: something is left."""
    channel = kernel.Channel(
        Received(receive),
        proto.window,
        proto.outbox,
        masks=False,
        reading=threading.Lock(),
        writing=threading.Lock(),
        identity=threading.get_ident,
    )
    return channel.receive(None, Elsewhere())


def deflated(data, *, bits=15, end=zlib.Z_SYNC_FLUSH):
    """A compressed message as another implementation makes it."""
    stream = zlib.compressobj(wbits=-bits)
    return (stream.compress(data) + stream.flush(end)).removesuffix(b"\x00\x00\xff\xff")


@functools.cache
def bomb():
    """200 MiB in 199 KiB."""
    return deflated(bytes(200 * MIB))
