"""Two ends under TLS, both real ones, and between them somebody who changes the records.

In the middle records are flipped, cut off, doubled, dropped, reordered, cut in pieces and
made up, on their way either way, in the handshake and after it. What is checked:

- nothing but an OSError comes out of an end, and every call returns;
- what an end reads is what the other one has sent, from its beginning and in order: nothing
  else, whatever the middle does, but zeros once it has ended its own stream (they stand for
  what it drops); where the middle does nothing, all of it;
- what an end holds is bounded; and both come to rest.

OpenSSL draws its keys anew each time: a crash has to be tried more than once.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any

from harness import Source, fuzz
from scriptling_ws._network import tls as _tls
from scriptling_ws._network.encrypted import SLICE
from scriptling_ws._network.tls import TLSTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
SIZES = (20_000, 70_000, 200_000)
TURNS = 400  # an honest middle needs some forty
READ = 4096
# Types of records: of the handshake, alerts, data, and what no version knows.
KINDS = (20, 21, 22, 23, 24, 0, 255)
_RECORD = 16_384
_MOST_IN = _tls._READ + 2 * _RECORD  # ciphertext that waits for its decryption
_MOST_OUT = 2 * SLICE  # ciphertext that waits for the socket, beside answers


@functools.cache
def contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS settings of the client and the server, for one version."""
    from pairs import authority  # makes certificates with a package that is not everywhere

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority().configure_trust(client)
    client.minimum_version = client.maximum_version = version
    return client, server


class End:
    """One end: a transport, what it still has to send, and what it has read."""

    def __init__(
        self,
        sock: socket.socket,
        version: ssl.TLSVersion,
        data: bytes,
        *,
        server: bool,
        patience: int,
    ) -> None:
        ours = contexts(version)[server]
        name = None if server else "localhost"
        self.transport = TLSTransport(sock, ours, server_side=server, server_hostname=name)
        self.to_send = memoryview(data)
        self.read = bytearray()
        self.open = False
        self.patience = patience  # how much it reads before it ends its own stream
        self.ended = False  # the other end's stream has
        self.over = False  # so have both, or one is broken
        self.finished = False

    def step(self) -> bool:
        """Do what can be done at once; whether anything was."""
        if self.over:
            return False
        try:
            moved = self._open() if not self.open else self._receive() + self._send() > 0
        except OSError:
            self.over = moved = True
            self.transport.abort()
        self._check()
        return moved

    def _open(self) -> bool:
        self.open = self.transport.handshake_step()
        return self.open

    def _send(self) -> int:
        count = self.transport.write(self.to_send) if self.to_send else 0
        self.to_send = self.to_send[count:]
        said = not self.to_send and self.transport.flush()
        if said and not self.finished and (self.ended or len(self.read) >= self.patience):
            self.finished = True
            self.transport.finish_writing()
            count += 1
        self.over = self.ended and self.finished
        return count

    def _receive(self) -> int:
        if self.ended:
            return 0
        buffer = bytearray(READ)
        ahead = self.transport.peek(16)
        count = self.transport.read_into(buffer)
        if ahead is not None:
            assert count is not None
            assert bytes(buffer[: min(count, len(ahead))]) == ahead[:count]
        if count is None:
            return 0
        self.ended = not count
        if any(buffer[:count]):
            self.read += buffer[:count]
        elif count:
            assert self.finished
            assert self.transport.session.draining
        return count + 1

    def _check(self) -> None:
        transport: Any = self.transport
        assert len(transport.session.cipher) <= _tls._READ
        assert transport._in.pending <= _MOST_IN
        assert transport._out.pending + len(transport.session.unsent) <= _MOST_OUT

    def close(self) -> None:
        self.transport.close()


class Middle:
    """Takes what one end sends, record by record, and gives the other one what it likes."""

    def __init__(self, source: socket.socket, sink: socket.socket, plan: Source) -> None:
        self._source, self._sink, self._plan = source, sink, plan
        self._stream = bytearray()
        self._held = b""  # a record that the next one overtakes
        self._out: deque[bytes] = deque()
        self._ended = False  # the source has; and then the sink was told
        self._told = False
        self.honest = True

    def step(self) -> bool:
        """Take what is there, give what can be given; whether anything moved."""
        moved = self._take()
        for record in self._records():
            self._out.extend(self._changed(record))
        if self._ended:
            self._out.extend(each for each in (self._held, bytes(self._stream)) if each)
            self._held, self._stream = b"", bytearray()
        return self._give() or moved

    def _take(self) -> bool:
        try:
            data = b"" if self._ended else self._source.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        moved, self._ended = not self._ended, not data
        self._stream += data
        return moved

    def _records(self) -> Iterator[bytes]:
        while len(self._stream) >= 5:
            size = 5 + int.from_bytes(self._stream[3:5], "big")
            if len(self._stream) < size:
                return
            yield bytes(self._stream[:size])
            del self._stream[:size]

    def _changed(self, record: bytes) -> list[bytes]:
        """What becomes of one record: the pieces, each of which comes in a turn of its own."""
        how = self._plan.byte()
        held, self._held = self._held, b""
        after = [held] if held else []
        if how < 128:  # which it is also where the plan has ended
            return [record, *after]
        if how < 144:
            cuts = sorted(self._plan.number() % len(record) for _ in range(2))
            return [record[: cuts[0]], record[cuts[0] : cuts[1]], record[cuts[1] :], *after]
        self.honest = False
        if how < 160:
            at = self._plan.number() % len(record)
            bit = 1 << how % 8
            return [record[:at] + bytes((record[at] ^ bit,)) + record[at + 1 :], *after]
        if how < 172:
            return after
        if how < 188:
            return [record, record, *after]
        if how < 204:
            self._held = record
            return after
        if how < 220:
            return [record[: self._plan.number() % len(record)], *after]
        return [*self._made_up(how), record, *after]

    def _made_up(self, how: int) -> list[bytes]:
        """Records that nobody has sent: alone, or very many of them."""
        body = self._plan.take(self._plan.byte() % 64)
        made = bytes((self._plan.pick(KINDS), 3, 3)) + len(body).to_bytes(2, "big") + body
        return [made * 500] if how > 250 else [made]

    def _give(self) -> bool:
        piece = self._out.popleft() if self._out else b""
        if not piece:
            if not self._ended or self._told or self._out:
                return bool(self._out)
            self._told = True
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)
            return True
        try:
            count = self._sink.send(piece)
        except BlockingIOError:
            count = 0
        except OSError:
            self._out.clear()  # the other end has left
            return True
        if count < len(piece):
            self._out.appendleft(piece[count:])
        return count > 0


def payload(source: Source, mark: str) -> bytes:
    """What an end sends: nothing, little or much, different at each place, and no zeros."""
    size = source.byte()
    size = source.pick(SIZES) if size > 240 else size * (size // 16)
    return "".join(f"{mark}{number:05}" for number in range(size // 6 + 1)).encode()[:size]


def check(data: bytes) -> None:
    """One connection, from its handshake to its end."""
    source = Source(data)
    how = source.byte()
    version, hasty = VERSIONS[how & 1], (bool(how & 2), bool(how & 4))
    sent = payload(source, "c"), payload(source, "s")
    plans = Source(source.take(source.byte())), Source(source.rest())
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(each) for _ in range(2) for each in socket.socketpair()]
        for sock in (socks[1], socks[3]):
            sock.setblocking(False)
        patience = [0 if each else len(data) for each, data in zip(hasty, sent, strict=True)]
        client = End(socks[0], version, sent[0], server=False, patience=patience[1])
        stack.callback(client.close)
        server = End(socks[2], version, sent[1], server=True, patience=patience[0])
        stack.callback(server.close)
        middles = (
            Middle(socks[1], socks[3], plans[0]),
            Middle(socks[3], socks[1], plans[1]),
        )
        for _ in range(TURNS):
            if not sum(each.step() for each in (client, *middles, server)):
                break
        else:
            raise AssertionError("it does not come to rest")
        assert sent[0].startswith(bytes(server.read)), "the server has read what was not sent"
        assert sent[1].startswith(bytes(client.read)), "the client has read what was not sent"
        if all(middle.honest for middle in middles):
            assert (client.over, server.over) == (True, True)
            for end, data, early in ((server, sent[0], hasty[0]), (client, sent[1], hasty[1])):
                assert early or bytes(end.read) == data


if __name__ == "__main__":
    fuzz(check)
