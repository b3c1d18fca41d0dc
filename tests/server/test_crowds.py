"""A server that a thousand peers keep busy at once: nobody else waits."""

import contextlib
import time

import pytest

import scriptling_ws as ws
from servers import dial, head, routes_of, serving

resource = pytest.importorskip("resource")

SOON = 5.0  # seconds that another client may take on a busy machine; by itself it takes some 50 ms


@pytest.mark.abuse(17)
def test_a_thousand_peers_that_send_a_byte_at_a_time():
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2500:
        pytest.skip("there are too few descriptors")
    with (
        serving(routes=routes_of(), handshake_timeout=30) as server,
        contextlib.ExitStack() as stack,
    ):
        peers = [stack.enter_context(dial(server)) for _ in range(1000)]
        request = head("/page", "X: " + "x" * 200)
        for byte in request[:40]:
            for peer in peers:
                peer.send(bytes([byte]))
        start = time.monotonic()
        with ws.connect(f"ws://127.0.0.1:{server.port}/ws") as conn:
            conn.send("served")
            assert conn.receive(10) == "served"
        assert time.monotonic() - start < SOON
        peers[0].sendall(request[40:])
        assert peers[0].recv(4096).startswith(b"HTTP/1.1 200")
