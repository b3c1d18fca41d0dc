"""Write the seeds: a few small inputs for every target, from tables in this file.

    python fuzz/make_seeds.py

A seed of another name in fuzz/corpus is left alone: a crash that was found and mended is
kept there, under a name that says what it was.
"""

from __future__ import annotations

import struct
from pathlib import Path

import harness  # noqa: F401 - makes the next one importable
import streams

# isort: split
from frames import raw_frame
from kernels import KEY
from proxied import binary, line, tlv

CORPUS = Path(__file__).parent / "corpus"

REQUEST = (
    b"GET /chat?a=b HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)

# What the two handshakes' inputs start with: choices, then how many bytes say where to cut.
WHOLE = b"\0\0"
CUT = b"\0\4\5\1\7\x20"
AT_ONCE = b"\0\1\0"
IN_PIECES = b"\0\1\4\5\1\7\x20"

requests = {
    "upgrade": WHOLE + REQUEST + b"\r\n",
    "upgrade-cut": CUT + REQUEST + b"\r\n",
    "upgrade-and-frame": CUT + REQUEST + b"\r\n" + raw_frame(0x81, b"hello", KEY),
    "subprotocols": WHOLE + REQUEST + b"Sec-WebSocket-Protocol: chat, v2\r\n\r\n",
    "extension": WHOLE
    + REQUEST
    + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15\r\n\r\n",
    "bad-extension": WHOLE
    + REQUEST
    + b'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="10"; x\r\n\r\n',
    "origin": b"\1\0" + REQUEST + b"Origin: https://example.com\r\n\r\n",
    "foreign-origin": WHOLE + REQUEST + b"Origin: null\r\n\r\n",
    "no-host": WHOLE + REQUEST.replace(b"Host: example.com\r\n", b"") + b"\r\n",
    "host-not-ascii": WHOLE + REQUEST.replace(b"example.com", b"\xff") + b"\r\n",
    "version-8": WHOLE + REQUEST.replace(b"13", b"8") + b"\r\n",
    "http-1.0": WHOLE + REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
    "body": WHOLE + REQUEST + b"Content-Length: 5\r\n\r\nhello",
    "chunked": WHOLE + REQUEST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": WHOLE + REQUEST + b"X: a\r\n b\r\n\r\n",
    "bare-lf": WHOLE + REQUEST.replace(b"\r\n", b"\n") + b"\n",
    "double-key": WHOLE + REQUEST + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "get": WHOLE + b"GET /%41?a=%zz HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "post": WHOLE + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "star": WHOLE + b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "lists-in-lines": WHOLE
    + REQUEST.replace(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: WebSocket")
    + b"Connection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "absolute-form": b"\1\0"
    + REQUEST.replace(b" /chat", b" HTTPS://Example.com:443/chat")
    + b"Origin: https://EXAMPLE.com\r\n\r\n",
    "no-path": WHOLE + b"GET http://[::1]?a HTTP/1.0\r\nHost: a b\r\n\r\n",
}
answers = {
    "accept": AT_ONCE + ANSWER + b"\r\n",
    "accept-cut": IN_PIECES + ANSWER + b"\r\n",
    "accept-and-frame": IN_PIECES + ANSWER + b"\r\n" + raw_frame(0x81, b"hello"),
    "subprotocol": b"\1\1\0" + ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
    "foreign-subprotocol": AT_ONCE + ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
    "extension": AT_ONCE + ANSWER + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    "double-accept": AT_ONCE
    + ANSWER
    + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    "interim": IN_PIECES
    + b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: </a>\r\n\r\n"
    + ANSWER,
    "not-found": IN_PIECES + b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
    "chunked": IN_PIECES
    + b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno\n\r\n0\r\n\r\n",
    "redirect": IN_PIECES + b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
    "http-1.0": AT_ONCE + ANSWER.replace(b"1.1", b"1.0") + b"\r\n",
    "endless": b"\0\0\0" + b"HTTP/1.0 200 OK\r\n\r\n<html>",
    "ssh": AT_ONCE + b"SSH-2.0-OpenSSH_9.2\r\n",
}
urls = {
    name: b"\0\0" + text.encode()
    for name, text in {
        "plain": "ws://example.com/chat?a=b",
        "port": "wss://127.0.0.1:8443",
        "ipv6": "ws://[fe80::1%25eth0]:80/",
        "credentials": "wss://user:hunter2@example.com/%41",
        "bad-port": "ws://user:hunter2@example.com:99999/",
        "idna": "ws://b\xfccher.example/\xe4?\u20ac",
        "fragment": "ws://a/#b",
        "scheme": "http://a/",
        "brackets": "ws://a[::1]b/",
    }.items()
} | {"header": b"\3\5a\r\nb\0ws://a/", "authorization": b"\2\5Basicws://u:p@a/"}

FRAMES = {
    "messages": [(0x81, b"hello"), (0x82, bytes(200)), (0x81, "\u20ac".encode())],
    "fragments": [(0x01, b"\xe2"), (0x89, b"ping"), (0x00, b"\x82"), (0x80, b"\xac")],
    "close": [(0x8A, b""), (0x88, b"\x03\xe8bye"), (0x81, b"late")],
    "bad-text": [(0x81, b"ok"), (0x81, b"\xed\xa0\x80")],
    "bad-opcode": [(0x83, b"")],
    "compressed": [(0xC1, b"\xf2\x48\xcd\xc9\xc9\x07\x00")],
    "lone-continuation": [(0x80, b"x")],
    "long-ping": [(0x89, bytes(126))],
}
RAW = {
    "2-to-63": struct.pack("!BBQ", 0x82, 127, 2**63),
    "2-to-62": struct.pack("!BBQ", 0x82, 127, 2**62),
    "not-shortest": b"\x81\x7e\x00\x05hello",
    "half-header": b"\x81\xfe\x01",
}


def raw_streams(before_raw: bytes, masked: bool) -> dict[str, bytes]:
    """Streams of one role's frames behind `before_raw`, which asks for raw bytes."""
    make = streams.masked_frame if masked else raw_frame
    made = {name: b"".join(make(*each) for each in FRAMES[name]) for name in FRAMES}
    return {name: before_raw + data for name, data in (made | ({} if masked else RAW)).items()}


def protocol_streams(before: bytes) -> dict[str, bytes]:
    """For the protocol's targets: `before` a stream, the role being its first byte's low bit."""
    client, server = bytes([before[0] | 1]), bytes([before[0] & 0xFE])
    of_client = raw_streams(client + before[1:] + b"\7", masked=False)
    of_server = raw_streams(server + before[1:] + b"\7", masked=True)
    made = client + before[1:] + b"\0" + bytes((0, 3)) + b"abc" + bytes((2, 250, 8)) + b"ab"
    return of_client | {f"{name}-masked": data for name, data in of_server.items()} | {"made": made}


# The role, the plan of the socket, the calls (two bytes each), what the peer sends.
QUIET, BUSY = b"\0", b"\x14" + bytes((6, 0, 14, 7, 0, 22, 15, 0, 30, 6) * 2)
CALLS = {
    "receive": bytes((0, 3, 1, 5, 2, 4, 6, 0)),
    "send": bytes((3, 20, 4, 1, 5, 4, 3, 3, 6, 0, 7, 3)),
    "large": bytes((3, 255, 4, 254, 1, 4)),
}
PEER = [(0x81, b"hello"), (0x89, b"ping"), (0x02, b"a"), (0x80, b"b"), (0x88, b"\x03\xe8bye")]
sessions = {
    f"{calls}-{'client' if client else 'server'}-{'busy' if plan is BUSY else 'quiet'}": bytes(
        (client,)
    )
    + plan
    + bytes((len(CALLS[calls]),))
    + CALLS[calls]
    + b"\7"
    + b"".join((raw_frame if client else streams.masked_frame)(*each) for each in PEER)
    for calls in CALLS
    for client in (False, True)
    for plan in (QUIET, BUSY)
}

# How, the window's size, the limit; the calls, three bytes each; payloads; what the peer sends.
CHANNEL_CALLS = {
    "receive": bytes((0, 0, 255, 2, 1, 0, 2, 1, 0, 0, 0, 255, 2, 2, 0, 3, 9, 0)),
    "pieces": bytes((0, 0, 3, 2, 1, 0, 0, 0, 1, 2, 0, 0, 1, 2, 0, 2, 1, 0)),
    "send": bytes((4, 0, 0, 5, 0, 0, 5, 1, 1, 5, 2, 2, 6, 0, 0, 4, 3, 0)),
    "refused": bytes((4, 1, 1, 5, 0, 241, 5, 0, 242, 4, 0, 255, 7, 0, 0, 5, 0, 0)),
    "in-the-way": bytes((7, 7, 0, 4, 0, 0, 7, 7, 0, 7, 8, 0, 5, 0, 1, 7, 9, 0, 2, 1, 0)),
    "flags": bytes((7, 1, 0, 0, 0, 9, 2, 1, 0, 7, 5, 0, 4, 0, 0, 7, 4, 0, 5, 0, 0)),
}
CHANNEL_PAYLOADS = b"\4" + b"\5hello" + b"\xff\7abcdefgh" + b"\xfe\5abcdefg" + b"\4a\xffbc"
channels = {
    f"{calls}-{'client' if client else 'server'}": bytes((client | 2 * (not client), 0, 0))
    + bytes((len(CHANNEL_CALLS[calls]) // 3,))
    + CHANNEL_CALLS[calls]
    + CHANNEL_PAYLOADS
    + b"\7"
    + b"".join(
        (raw_frame if client else streams.masked_frame)(*each)
        for each in [(0x81, b"hello"), (0x82, b"ab"), (0x81, b"\xc3\xa9"), (0x89, b"ping")]
    )
    for calls in CHANNEL_CALLS
    for client in (False, True)
}

SEEDS = {
    "channel": {
        **channels,
        "full-window": b"\4\5\0\5\0\0\xff\2\1\0\2\1\0\0\0\xff\2\1\0\0\7"
        + raw_frame(0x82, b"abcdefgh") * 3,
        "full-socket": b"\x09\0\0\3\5\0\0\5\0\1\4\0\0\1\xff\7abcdefgh",
        "end": b"\0\0\0\4\0\0\3\7\x09\0\2\1\0\2\1\0\0\7" + raw_frame(0x81, b"a"),
    },
    "handshake_server": requests,
    "http_requests": {
        **{name: b"\0" + data[1:] for name, data in requests.items() if data[:1] != b"\1"},
        "post-hello": b"\0\3\2\7\x20POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "two-lengths": b"\0\0PUT / HTTP/1.1\r\nHost: a\r\n"
        b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi!",
        "head-1.0": b"\0\0HEAD /a?b HTTP/1.0\r\nCookie: a=b\r\ncookie: c=d\r\n\r\n",
        "valid": b"\1\3\2\5\x20\0\1\5abcde\0\4efgh\2\3xyz\4\2ab\1\5hello\2ok\5title",
        "valid-head": b"\1\0\1\3\0\0\0\0\0\0\0\0\0\3abc\0\1\4\4",
        "valid-large": b"\1\4\3\1\7\7\2\2\x0bsome/where/\0\0\0\0\0\0\1\xff\x08abcdefgh\0\xff\7abcd",
    },
    "handshake_client": answers,
    "urls": urls,
    "proxies": {
        "line": b"\0\4\3\7\1\2" + line() + b"GET /",
        "line-6": b"\0\0" + line("2001:db8::1") + b"GET /",
        "unknown": b"\0\1\1PROXY UNKNOWN ffff::1 x\r\nGET /",
        "binary": b"\0\3\5\1\x0c" + binary() + b"\x16\3\1",
        "binary-6": b"\0\0" + binary("2001:db8::1", more=tlv(4, b"more")) + b"GET",
        "local": b"\0\0" + binary(None, command=0, protocol=0) + b"GET",
        "cut": b"\0\0" + binary()[:20],
        "none": b"\0\0GET / HTTP/1.1\r\n",
        "made": b"\1\1\xc0\0\2\1\x13\x88\3abc\4\5hello",
        "made-6": b"\1\0" + bytes(10) + b"\xff\xff\x7f\0\0\1\0\0",
        "hops": b"\2\0" + b"10.0.0.1, [::1]:80,unknown",
        "elements": b"\2\3" + b'for=192.0.2.60;proto=http;by=203.0.113.43, for="[2001:db8::1]:_x"',
        "quoted": b'\2\1for="a\\", for=10.0.0.1;x="',
    },
    "protocol_chunks": protocol_streams(b"\x0c\0\0\4\5\1\7\x20"),
    "protocol_wsproto": protocol_streams(b"\0"),
    "protocol_control": {
        "pings": b"\1\0\4ping\2\0\0\x7dx",
        "closed-by-peer": b"\0\3\3bye\4\0\0\3abc",
        "closed-here": b"\1\6\5hello\3\3bye\4\0\0\3abc",
        "bad-code": b"\1\3\3bye\2\3",
        "bad-reason": b"\0\4\3bye\3\1",
        "end": b"\1\5\2hi\7\0\0\1a",
    },
    "deflate": {
        "hello": b"\x05\6\0\0\5hello\x11\5world\x01\2\3",
        "takeover": b"\x0d\6\0\3\2\1\3\5hello\5hello\0\0\2\2",
        "no-takeover": b"\x0c\0\0\0\5hello\5hello\1\0\3\3",
        "final-block": b"\x03\6\0\0\3abc\x11\1\2",
        "over-the-limit": b"\x02\6\5\0\xff\3ab\1\0\0",
        "garbage": b"\x03\6\0\0\5\xff\xff\xff\xff\xff\0\0\0",
        "damaged": b"\x02\6\0\0\5hello\xc1\0\1\7\0\2\x55",
    },
    "extensions": {
        name: b"\0\0\0\0" + header
        for name, header in {
            "offer": b"permessage-deflate; client_max_window_bits",
            "two": b"permessage-deflate; server_max_window_bits=10, permessage-deflate",
            "answer": b"; server_no_context_takeover; client_max_window_bits=9",
            "quoted": b'x; a="b,c\\";", permessage-deflate; server_max_window_bits="10"',
            "twice": b"permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "out-of-range": b"permessage-deflate; server_max_window_bits=7",
        }.items()
    }
    | {"both": b"\x1f\4\x0c\6"},
    "outgoing": {
        "text": b"\0\5hello\1\x03\xe8bye",
        "surrogate": b"\x08\2\xff\xfe\1\x13\x88",
        "dict": b"\1\3abc\0\1\2\xcf\3\4",
        "list": b"\2\3\0\x7f\xff\x03\xed",
        "large": b"\x0f\xff\x07abcdefgh",
        "strided": b"\x0c\6abcdef\1",
        "strange": b"\x0e\3abc\4",
    },
    "session": sessions,
    "kernel_mask": {
        "small": b"\1\3\0\x12\x34\xab\xcd\1\5hello",
        "vectors": b"\0\1\0\x12\x34\xab\xcd\2\xff\x0aabcdefgh",
        "strange-offset": b"\0\0\x1c\x12\x34\xab\xcd\6\5hello",
        "bad-key": b"\0\0\xe0\1\0\5hello",
    },
    "kernel_encode": {
        "bytes": b"\0\x82\1\x12\x34\xab\xcd\5hello",
        "text": b"\1\x81\2\x12\x34\xab\xcd\3\xe2\x82\xac",
        "list": b"\xc2\x82\3\0\5hello\1",
        "long": b"\0\x82\6\x12\x34\xab\xcd\xff\x0ba",
        "empty-strided": b"\xc3\x82\0\0\0\2",
    },
    "kernel_io": {
        **raw_streams(b"\0\0\0\0\0\7", masked=False),
        "masked": b"\1\0\0\0\0\7" + streams.masked_frame(0x81, b"hello"),
        "full": b"\2\1\4\0\0\7" + raw_frame(0x82, b"abcdefgh"),
        "nothing": b"\0\xc0\0\0\0\7" + raw_frame(0x82, b"a"),
        "would-block": b"\0\xc8\0\0\0\7" + raw_frame(0x82, b"a"),
        "reset": b"\0\xc9\0\0\0\7" + raw_frame(0x82, b"a"),
        "strange-count": b"\0\xe1\0\0\0\7" + raw_frame(0x82, b"a"),
        "noted": b"\0\0\0\0\xff\7" + raw_frame(0x82, b"a"),
    },
    "kernel_rooms": {
        "fragments": b"\0\2\0\3abc\0\4\2de\0\0\0\0\7\0\1\0\1x\0\0\0\0\7",
        "masked": b"\1\2\0\3abc\0\4\2de\0\0\0\0\7",
        "payload": b"\x64\1\1\5hello\0\x64\0\0\xff\6ab\2\xb4",
        "allocated": b"\xc8\0\x20\x64\1\1\5hello\0",
        "shared": b"\xe2\x64\1\1\5hello\0",
        "strange": b"\xf0\5\xf5\6\xfa\0",
    },
    "kernel_lists": {
        "plain": b"\0\0\0\0\5\0\1\x7f\x80\xff",
        "hostile": b"\2\0\0\0\5\0\1\x7f\x80\xff",
        "strange": b"\x0c\7\0\2\5\0\1\x7f\x80\xff",
        "blocks": b"\x0d\x0b\0\x21\xff\5abc",
    },
    "tls_records": {
        # The version and who is hasty, how much each sends, and the plans of both ways.
        "quiet": b"\0\x20\x20\0",
        "quiet-1.2": b"\1\x20\x20\0",
        "large": b"\0\xf2\xf1\0",
        "hasty": b"\6\xf2\xf2\0",
        "cut": b"\0\x40\x40\x10" + b"\x80\0\3\0\x40" * 3 + b"\0" + b"\x80\0\1\0\2" * 3,
        "flipped": b"\1\x40\x40\x0c" + b"\0\0\0\0\x94\0\x09" + bytes(5) + b"\0\0\x95\0\7",
        "dropped": b"\0\x40\x40\4\0\0\0\xa0\0\0\0\0\xa1",
        "doubled": b"\0\x40\x40\4\0\0\0\xb0\0\0\0\0\xb0",
        "swapped": b"\0\xf2\x40\4\0\0\0\xc0\0\0\0\0\xc0",
        "made-up": b"\0\x40\x40\x09\0\0\0\xdf\0\5\2\1\0\0\xff\x20\0",
        "behind-the-end": b"\7_u\x18z\1\x1d\x16\6\xee\xeb3\x1f\xd1\x9d\xf9\xa8&\x9f",
    },
    "kernel_read": raw_streams(b"\x0c\0\0\0", masked=False)
    | {f"{name}-masked": data for name, data in raw_streams(b"\x0d\0\0\0", masked=True).items()}
    | {"made": b"\x09\0\3\0\0\3abc\0\1\xff\x0cab\0"},
}


def main() -> None:
    """Write every seed to fuzz/corpus/<target>/<name>."""
    for target, seeds in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
