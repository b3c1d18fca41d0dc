"""The kernel against memcpy, the built-ins, the peers' maskers and wsproto.

Medians of interleaved rounds in one process, of processor time, so that what
else the machine does counts little and falls on all alike. Peers that are not
installed are left out. As a script, `python bench/kernel.py [--quick]`.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import statistics
import sys
import time
import timeit
from typing import Any

ROUND = 0.002  # seconds a statement runs in one round
KEY = b"\x12\x34\x56\x78"
SIZES = [64, 1024, 4096, 65536, 1 << 20, 16 << 20]
MASK_SIZES = [64, 256, 1024, 4096, 16384, 65536, 262144, 1 << 20, 4 << 20, 16 << 20]
WS_BINARY = 0x82

Row = dict[str, Any]
Statements = dict[str, str]


def measure(statements: Statements, names: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds per run of each statement, round by round."""
    timers = {
        name: timeit.Timer(code, timer=time.process_time, globals=names)
        for name, code in statements.items()
    }
    counts = {}
    for name, timer in timers.items():
        count = 1
        while (took := timer.timeit(count)) < 0.0005:
            count *= 4
        counts[name] = max(1, int(count * ROUND / took))
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    order = list(timers.items())
    shuffle = random.Random(0).shuffle  # no rhythm that a scheduler could fall in with
    for _ in range(rounds):
        shuffle(order)
        for name, timer in order:
            seconds[name].append(timer.timeit(counts[name]) / counts[name])
    return seconds


def found(module: str, name: str) -> Any:
    """A peer's function, or None."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None


def compare(
    table: str, size: int, statements: Statements, names: dict[str, Any], rounds: int
) -> Row:
    """One row: the first statement is ours; prints it with how many times as fast we are."""
    known = {name: code for name, code in statements.items() if names.get(name, True) is not None}
    seconds = measure(known, names, rounds)
    ours = next(iter(seconds.values()))
    # A ratio compares neighbours in time; so does its median.
    ratios = {
        name: statistics.median(theirs / mine for theirs, mine in zip(each, ours, strict=True))
        for name, each in seconds.items()
    }
    times = {name: statistics.median(each) * 1e9 for name, each in seconds.items()}
    print(
        f"{table:24} {size:9}  "
        + "  ".join(f"{name} {times[name]:,.0f} ns ({ratios[name]:.2f})" for name in times),
        flush=True,
    )
    return {
        "table": table,
        "size": size,
        "ns": {name: round(ns, 1) for name, ns in times.items()},
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }


def picows_masker(size: int) -> Any:
    """A call of picows' masker on `size` bytes in place, or None.

    It cannot be called from Python, so ctypes does it: some 0.3 us for the call
    come on top, which is why it is not asked about less than 64 KiB.
    """
    path = getattr(found("picows", "picows"), "__file__", None)
    if path is None or size < 65536:
        return None
    try:
        library = ctypes.PyDLL(path)  # no releasing of the GIL, like ours
        library.get_apply_mask_fast_fn.restype = ctypes.c_void_p
        library.get_apply_mask_fast_alignment.restype = ctypes.c_size_t
        address = library.get_apply_mask_fast_fn()
        alignment = library.get_apply_mask_fast_alignment()
    except (OSError, AttributeError):
        return None
    masker = ctypes.PYFUNCTYPE(
        *(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t),
        *(ctypes.c_size_t, ctypes.c_uint32, ctypes.c_void_p),
    )(address)
    room = ctypes.create_string_buffer(size + alignment)
    start = -(-ctypes.addressof(room) // alignment) * alignment
    arguments = (
        *(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_size_t(0)),
        *(ctypes.c_uint32(0x12345678), ctypes.c_void_p(start)),
    )

    def call() -> None:
        masker(*arguments)

    call.room = room  # type: ignore[attr-defined]  # lives as long as the call
    return call


def masks(kernel: Any, rounds: int) -> list[Row]:
    """Masking, into new bytes and in place; memcpy is the copy of as many bytes."""
    rows = []
    for size in MASK_SIZES:
        data = os.urandom(size)
        names = {
            "mask": kernel.apply_mask,
            "mask_in_place": kernel.mask_in_place,
            "key": KEY,
            "data": data,
            "array": bytearray(data),
            "one": memoryview(bytearray(data)),
            "two": memoryview(bytearray(data)),
            "websockets": found("websockets.speedups", "apply_mask"),
            "aiohttp": found("aiohttp._websocket.mask", "_websocket_mask_cython"),
            "wsaccel": found("wsaccel.xormask", "XorMaskerSimple"),
            "picows": picows_masker(size),
        }
        new = {
            "ours": "mask(data, key)",
            "memcpy": "bytes(array)",
            "websockets": "websockets(data, key)",
        }
        rows.append(compare("mask", size, new, names, rounds))
        place = {
            "ours": "mask_in_place(array, key)",
            "memcpy": "one[:] = two",
            "aiohttp": "aiohttp(key, array)",
            "wsaccel": "wsaccel(key).process(array)",
            "picows": "picows()",
        }
        rows.append(compare("mask in place", size, place, names, rounds))
    return rows


def lists(kernel: Any, rounds: int) -> list[Row]:
    """Lists of ints, both ways, against the built-ins."""
    rows = []
    for size in SIZES:
        data = os.urandom(size)
        names = {
            "to_bytes": kernel.list_to_bytes,
            "to_list": kernel.bytes_to_list,
            "data": data,
            "values": list(data),
        }
        there = {"ours": "to_bytes(values)", "bytes()": "bytes(values)"}
        back = {"ours": "to_list(data)", "list()": "list(data)"}
        rows.append(compare(f"list to bytes, {kernel.IMPLEMENTATION}", size, there, names, rounds))
        rows.append(compare(f"bytes to list, {kernel.IMPLEMENTATION}", size, back, names, rounds))
    return rows


def codec(kernel: Any, rounds: int) -> list[Row]:
    """A frame encoded and decoded, against wsproto's frame code."""
    protocol = found("wsproto.frame_protocol", "FrameProtocol")
    if protocol is None:
        return []
    rows = []
    for size in SIZES:
        data = os.urandom(size)
        for key in (None, KEY):
            frame = kernel.encode_frame(WS_BINARY, data, key)
            names = {
                "kernel": kernel,
                "data": data,
                "urandom": os.urandom,
                "frame": frame,
                "window": (window := bytearray(len(frame))),
                "view": memoryview(window),
                "end": len(frame),
                "masked": key is not None,
                "theirs_out": protocol(client=key is not None, extensions=[]),
                "theirs_in": protocol(client=key is None, extensions=[]),
            }
            encode = {
                "ours": f"kernel.encode_frame(0x82, data, {'urandom(4)' if key else None})",
                "wsproto": "theirs_out.send_data(data, True)",
            }
            # Both get the bytes as a socket gives them: ours in its window.
            decode = {
                "ours": "view[:] = frame; out = []; "
                "kernel.read_messages(window, 0, end, masked, False, 1 << 30, 99, out)",
                "wsproto": "theirs_in.receive_bytes(frame); "
                "out = list(theirs_in.received_frames())",
            }
            kind = f"{'masked, ' if key else ''}{kernel.IMPLEMENTATION}"
            rows.append(compare(f"encode {kind}", size, encode, names, rounds))
            rows.append(compare(f"decode {kind}", size, decode, names, rounds))
    return rows


def runs(kernel: Any, rounds: int) -> list[Row]:
    """read_messages on a run of 64 small messages, per message."""
    rows = []
    for first, as_list, kind in (
        (0x82, False, "bytes"),
        (0x81, False, "str"),
        (0x82, True, "list"),
    ):
        for size in (8, 64, 1024):
            window = bytearray(kernel.encode_frame(first, b"x" * size, None) * 64)
            code = (
                f"kernel.read_messages(window, 0, {len(window)}, False, {as_list}, 1 << 30, 64, [])"
            )
            seconds = measure({"ours": code}, {"kernel": kernel, "window": window}, rounds)
            each = statistics.median(seconds["ours"]) / 64 * 1e9
            print(f"a message of a run, {kind:5} {size:5}  {each:,.1f} ns", flush=True)
            rows.append({"table": f"run, {kind}", "size": size, "ns": {"ours": round(each, 1)}})
    return rows


def run(rounds: int = 21) -> list[Row]:
    """All tables; prints them and returns their rows."""
    pure = importlib.import_module("scriptling_ws._wsframe_py")
    rows = codec(pure, rounds)
    try:
        compiled = importlib.import_module("scriptling_ws._wsframe")
    except ImportError:
        print("the compiled kernel is not built: its tables are left out")
        return rows + lists(pure, rounds)
    return (
        masks(compiled, rounds)
        + lists(compiled, rounds)
        + runs(compiled, rounds)
        + codec(compiled, rounds)
        + rows
    )


if __name__ == "__main__":
    run(5 if "--quick" in sys.argv else 21)
