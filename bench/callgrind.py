"""Instructions per call of the compiled kernel: the same on a noisy machine.

Each case runs N and 2N times, in processes of their own under valgrind's
callgrind; the difference, divided by N, is one call without the start-up. What
the interpreter does for the call is in it, so a call that does nothing is shown
first; so is freeing the result. (AVX2 is what valgrind shows.) As a script:

    python bench/callgrind.py [part of a case's name ...]
"""

from __future__ import annotations

import sys  # the rest is imported where it is used: start-up is under valgrind too
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 5000
BYTES = 4_000_000  # a case of many bytes a call makes fewer calls
RUN = 64  # messages in the windows that read_messages gets
KEY = b"\x12\x34\x56\x78"
KEPT: list[object] = []  # sockets that have to stay open


def reader(
    kernel: Any, first: int, size: int, key: bytes | None, *, as_list: bool = False
) -> Callable[[], None]:
    """A call of read_messages on a run of RUN messages."""
    # All payload bytes are 0x40 under a key of 0x20s: unmasking them where
    # they lie, once or twice, gives ASCII either way.
    frame = kernel.encode_frame(first, b"@" * size, key)
    window = bytearray(frame * RUN)
    end, masked = len(window), key is not None
    read = kernel.read_messages

    def call() -> None:
        read(window, 0, end, masked, as_list, 2**40, RUN, [])

    return call


class Stream:
    """A channel's stream: a socket's descriptor."""

    naps = pending = False
    send_flags = 0
    receive = send = session = parking = None

    def __init__(self, kernel: Any, sock: Any) -> None:
        self.sock = sock
        self.descriptor = kernel.descriptor_of(sock)


class Aside:
    """The reader and the writer that a channel is given: there is nothing for them to do."""


def channel(kernel: Any, sock: Any, *, masks: bool) -> Any:
    """A channel over a socket."""
    from collections import deque

    return kernel.Channel(
        Stream(kernel, sock),
        kernel.Window(4096, not masks, False, 2**40, deque()),
        [],
        masks=masks,
        reading=kernel.Lock(),
        writing=kernel.Lock(),
        identity=None,
    )


def senders(kernel: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """A channel's sends, to a UDP socket that nobody reads: what has no room there is dropped."""
    import socket

    far, near = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    far.bind(("127.0.0.1", 0))
    near.connect(far.getsockname())
    client, server = (channel(kernel, near, masks=masks) for masks in (True, False))
    data, text, ints, aside = bytes(64), "x" * 64, list(bytes(64)), Aside()
    KEPT.append(far)
    return {
        "socket.send, 70 bytes": (lambda: near.send(bytes(70)), 0),
        "Channel.send_binary, 64 bytes": (lambda: client.send_binary(data, aside), 64),
        "Channel.send_binary, 64 unmasked": (lambda: server.send_binary(data, aside), 64),
        "Channel.send_binary, list of 64": (lambda: client.send_binary(ints, aside), 64),
        "Channel.send_text, str of 64": (lambda: client.send_text(text, aside), 64),
    }


def receivers(kernel: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """A channel's receive, and the send of a socket that it needs, by itself."""
    import socket

    near, far = socket.socketpair()
    client, aside, frame = channel(kernel, near, masks=True), Aside(), b"\x82@" + bytes(64)

    def send_and_receive() -> object:
        far.send(frame)
        return client.receive(5.0, aside)

    def send_and_recv() -> object:
        far.send(frame)
        return near.recv(4096)

    return {
        "socket's send and recv, 66 bytes": (send_and_recv, 0),
        "socket's send, Channel.receive, 64": (send_and_receive, 64),
    }


def cases(kernel: Any) -> dict[str, tuple[Callable[[], object], int]]:
    """What is counted: a call, and how many bytes it is about, by name."""
    small, large = bytes(64), bytes(65536)
    ints, many = list(small), list(range(256)) * 256
    text, place, little = "x" * 64, bytearray(65536), bytearray(64)
    header = kernel.encode_header(0x82, 70000, KEY)
    mask, frame = kernel.apply_mask, kernel.encode_frame
    spaces = b"    "
    return {
        "nothing": (lambda: None, 0),
        "apply_mask, 64": (lambda: mask(small, KEY), 64),
        "apply_mask, 64 Ki": (lambda: mask(large, KEY), 65536),
        "mask_in_place, 64": (lambda: kernel.mask_in_place(little, KEY), 64),
        "mask_in_place, 64 Ki": (lambda: kernel.mask_in_place(place, KEY), 65536),
        "encode_header": (lambda: kernel.encode_header(0x82, 70000, KEY), 0),
        "encode_frame, 64 bytes": (lambda: frame(0x82, small, KEY), 64),
        "encode_frame, 64 bytes unmasked": (lambda: frame(0x82, small, None), 64),
        "encode_frame, str of 64": (lambda: frame(0x81, text, KEY), 64),
        "encode_frame, list of 64": (lambda: frame(0x82, ints, KEY), 64),
        "parse_header": (lambda: kernel.parse_header(header, 0, 14), 0),
        "list_to_bytes, 64": (lambda: kernel.list_to_bytes(ints), 64),
        "list_to_bytes, 64 Ki": (lambda: kernel.list_to_bytes(many), 65536),
        "bytes_to_list, 64": (lambda: kernel.bytes_to_list(small), 64),
        "bytes_to_list, 64 Ki": (lambda: kernel.bytes_to_list(large), 65536),
        "read_messages, none": (reader(kernel, 0, 0, None), 0),
        "read_messages, 64 x 64 bytes": (reader(kernel, 0x82, 64, None), 4096),
        "read_messages, 64 x 64 bytes masked": (reader(kernel, 0x82, 64, spaces), 4096),
        "read_messages, 64 x 64 text": (reader(kernel, 0x81, 64, None), 4096),
        "read_messages, 64 x 64 text masked": (reader(kernel, 0x81, 64, spaces), 4096),
        "read_messages, 64 x 64 list": (reader(kernel, 0x82, 64, None, as_list=True), 4096),
        **senders(kernel),
        **receivers(kernel),
    }


def child(kernel_file: str, case: str, calls: int) -> None:
    """Make the calls, in a process that imported no more than it needs."""
    from importlib.machinery import ExtensionFileLoader, ModuleSpec
    from importlib.util import module_from_spec

    loader = ExtensionFileLoader("_wsframe", kernel_file)
    kernel = module_from_spec(ModuleSpec("_wsframe", loader, origin=kernel_file))
    loader.exec_module(kernel)
    call, _ = cases(kernel)[case]
    for _ in range(calls):
        call()


def instructions(kernel_file: str, case: str, calls: int) -> int:
    """The instructions of a whole process that makes `calls` calls of a case."""
    import os
    import re
    import subprocess

    command = [
        *("valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}"),
        *(sys.executable, "-s", "-S", __file__, "--child", kernel_file, case, str(calls)),
    ]
    # With hashes fixed, two counts of the same thing are the same to the digit.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"callgrind failed on {case!r}:\n{done.stderr}")
    return int(found[1])


def run(only: list[str] | None = None) -> list[dict[str, object]]:
    """Count the cases whose name holds one of `only`; print and return the rows."""
    from importlib.util import find_spec

    from scriptling_ws import _wsframe

    spec = find_spec("scriptling_ws._wsframe")
    assert spec is not None
    assert spec.origin is not None
    rows: list[dict[str, object]] = []
    print("instructions per call of the compiled kernel")
    for case, (_, size) in cases(_wsframe).items():
        if only and case != "nothing" and not any(part in case for part in only):
            continue
        calls = min(CALLS, BYTES // max(size, 1))
        once, twice = (instructions(spec.origin, case, calls * times) for times in (1, 2))
        rows.append({"case": case, "instructions": round((twice - once) / calls)})
        print(f"{case:36} {rows[-1]['instructions']:10,}", flush=True)
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        run(sys.argv[1:])
