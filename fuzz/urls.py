"""URLs: taken apart safely or refused, and a request made of one has the lines it is meant to have.

No password in an error or a repr; no control character in what is sent; and a URL put
together again from its parts is the same URL.
"""

from __future__ import annotations

import base64
import re
import traceback
from urllib.parse import unquote

from harness import Source, fuzz
from scriptling_ws._errors import InvalidURL
from scriptling_ws._handshakes.client import ClientHandshake
from scriptling_ws._handshakes.url import URL, parse_url
from scriptling_ws._network.authority import host_port

HEADERS = ("X-Test", "Origin", "Authorization", "Host", "Bad Name", "Cookie")
SECRET = "hunter2"
AUTHORITY = re.compile(rf"[A-Za-z]*://[^/?#]*:{SECRET}@")


def check(data: bytes) -> None:
    """One URL, and one header to go with it."""
    source = Source(data)
    name, value = source.pick(HEADERS), source.take(source.byte() % 32).decode("latin-1")
    text = source.rest().decode("utf-8", "surrogateescape" if len(value) & 1 else "replace")
    secret = text.count(SECRET) == 1 and AUTHORITY.match(text) is not None
    try:
        url = parse_url(text)
    except InvalidURL as error:
        assert not (secret and SECRET in shown(error)), shown(error)
        return
    check_parts(url)
    assert not (secret and SECRET in repr(url)), repr(url)
    check_request(url, name, value)


def shown(error: BaseException) -> str:
    """What a traceback would say, its source lines aside."""
    lines = traceback.format_exception(error)
    return "".join(line for line in lines if not line.startswith("  File"))


def check_parts(url: URL) -> None:
    assert url.host
    assert 1 <= url.port <= 65_535
    assert re.fullmatch(r"/[\x21-\x7e]*", url.target)
    assert "#" not in url.target
    assert re.fullmatch(r"[A-Za-z0-9_.:%-]+", url.host), url.host
    if url.unix is not None:
        assert url.unix.startswith("/")
        assert "\0" not in url.unix
        assert url.credentials is None
    scheme = "wss" if url.secure else "ws"
    again = parse_url(f"{scheme}://{host_port(url.host, url.port)}{url.target}")
    assert (again.secure, again.port, again.target) == (url.secure, url.port, url.target)
    assert again.host.lower() == url.host.lower()
    assert parse_url(f"{scheme}://{url.host_header}{url.target}").port == url.port


def check_request(url: URL, name: str, value: str) -> None:
    """The request has to have exactly the lines it is made of."""
    try:
        request = ClientHandshake(url, {name: value}).request
    except ValueError:
        return
    first, *lines, end, nothing = request.split(b"\r\n")
    assert b"\n" not in request.replace(b"\r\n", b"")
    assert b"\r" not in request.replace(b"\r\n", b"")
    assert (end, nothing) == (b"", b"")
    assert first == b"GET " + url.target.encode("ascii") + b" HTTP/1.1"
    headers = {line.partition(b": ")[0].lower(): line.partition(b": ")[2] for line in lines}
    assert len(headers) == len(lines)
    key = base64.b64decode(headers.pop(b"sec-websocket-key"), validate=True)
    assert len(key) == 16
    assert headers.pop(b"user-agent").startswith(b"scriptling-ws/")
    host = {b"host": url.host_header.encode("ascii")}
    added = {name.lower().encode(): value.strip(" \t").encode("latin-1")}
    if url.credentials is not None:
        added.setdefault(b"authorization", url.credentials.encode("ascii"))
    assert headers == host | added | {
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-version": b"13",
    }
    assert unquote(url.host_header)


if __name__ == "__main__":
    fuzz(check)
