"""The abuse cases, rows 1 to 86: what marks a test with its rows, and the bytes that several use.

A test says which rows it covers with `@pytest.mark.abuse(57)`, a single case of a parametrized
test with `*row(57, ...)` in the list of cases. conftest.py counts them.
"""

import functools
import struct

import pytest

from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

ROWS = range(1, 87)

BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)


def row(number, *cases):
    """Cases of one row, for `parametrize`: tuples, or a dict of tuples by their names."""
    mark = pytest.mark.abuse(number)
    for case in cases:
        if isinstance(case, dict):
            for name, values in case.items():
                yield pytest.param(*values, marks=mark, id=name)
        else:
            yield pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark)


def long_header(first, form, length, mask):
    """A frame's header with its length in 16 or 64 bits, whether or not it needs them."""
    bit = 0x80 if mask else 0
    code, layout = {16: (126, "!BBH"), 64: (127, "!BBQ")}[form]
    return struct.pack(layout, first, bit | code, length) + (bytes(4) if mask else b"")


def violations(client):
    """What a peer may not send to a client, or to a server: by row, the bytes and the close code.

    Nothing of it is a message, save the first of two frames in some, which is the text `x`.
    """
    mask = not client
    make = functools.partial(frame, mask=mask)
    header = functools.partial(long_header, mask=mask)
    wrong = functools.partial(frame, mask=client)
    who = "masked from a server" if client else "not masked from a client"
    return {
        33: {
            who: (wrong(TEXT, b"hello"), 1002),
            f"binary {who}": (wrong(BINARY, b"hello"), 1002),
            f"ping {who}": (wrong(PING), 1002),
            f"close {who}": (wrong(CLOSE), 1002),
        },
        34: {
            "reserved bit 1": (make(TEXT, b"x", rsv=4), 1002),
            "reserved bit 2": (make(TEXT, b"x", rsv=2), 1002),
            "reserved bit 3": (make(TEXT, b"x", rsv=1), 1002),
            **{f"opcode {code}": (make(code), 1002) for code in (3, 4, 5, 6, 7, *range(11, 16))},
            "ping of 126 bytes": (make(PING, bytes(126)), 1002),
            "pong of 126 bytes": (make(PONG, bytes(126)), 1002),
            "close of 126 bytes": (make(CLOSE, b"\x03\xe8" + bytes(124)), 1002),
            "ping without FIN": (make(PING, fin=False), 1002),
            "pong without FIN": (make(PONG, fin=False), 1002),
            "close without FIN": (make(CLOSE, fin=False), 1002),
        },
        35: {
            "length 2**63": (header(0x82, 64, 2**63), 1002),
            "length 2**64 - 1": (header(0x82, 64, 2**64 - 1), 1002),
        },
        36: {
            "declared 2**62": (header(0x82, 64, 2**62), 1009),
            "declared 2**62 as text": (header(0x81, 64, 2**62), 1009),
        },
        37: {
            "continuation of 2**63 - 1": (
                make(BINARY, b"x", fin=False) + header(0x80, 64, 2**63 - 1),
                1009,
            ),
        },
        38: {
            "length 5 in 16 bits": (header(0x81, 16, 5) + b"hello", 1002),
            "length 125 in 16 bits": (header(0x81, 16, 125) + bytes(125), 1002),
            "length 5 in 64 bits": (header(0x81, 64, 5) + b"hello", 1002),
            "length 65535 in 64 bits": (header(0x81, 64, 65_535) + bytes(65_535), 1002),
        },
        40: {
            f"text {bad.hex()}": (make(TEXT, bad), 1007)
            for bad in (b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xff")
        },
        43: {
            "continuation of nothing": (make(CONTINUATION, b"x"), 1002),
            "continuation without FIN of nothing": (make(CONTINUATION, b"x", fin=False), 1002),
            "continuation after a message": (make(TEXT, b"x") + make(CONTINUATION), 1002),
            "text inside a text": (make(TEXT, b"x", fin=False) + make(TEXT, b"y"), 1002),
            "binary inside a text": (make(TEXT, b"x", fin=False) + make(BINARY, b"y"), 1002),
            "text inside a binary": (
                make(BINARY, b"x", fin=False) + make(TEXT, b"y", fin=False),
                1002,
            ),
        },
        48: {
            **{
                f"close code {code}": (make(CLOSE, struct.pack("!H", code)), 1002)
                for code in (
                    0,
                    1,
                    999,
                    1004,
                    1005,
                    1006,
                    1015,
                    1016,
                    1100,
                    2000,
                    2999,
                    5000,
                    65_535,
                )
            },
            "close of one byte": (make(CLOSE, b"\x03"), 1002),
            "close reason that is not UTF-8": (make(CLOSE, b"\x03\xe8\xff"), 1007),
            "close reason with half a character": (make(CLOSE, b"\x03\xe8\xe2\x82"), 1007),
            "1014 with a reason that is not UTF-8": (make(CLOSE, b"\x03\xf6\xff"), 1007),
        },
        56: {
            "reserved bit on a ping": (make(PING, rsv=4), 1002),
            "reserved bit on a close": (make(CLOSE, rsv=4), 1002),
            "reserved bit on a continuation": (
                make(TEXT, b"x", fin=False) + make(CONTINUATION, rsv=4),
                1002,
            ),
        },
    }


def every_violation():
    """All of them, at both ends, as cases of (client, bytes, close code)."""
    cases = []
    for client in (True, False):
        end = "client" if client else "server"
        for number, group in violations(client).items():
            named = {f"{end}, {name}": (client, *case) for name, case in group.items()}
            cases.extend(row(number, named))
    return cases
