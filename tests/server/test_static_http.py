"""Static files as HTTP has them: conditions, ranges, compressed forms, and the fallback."""

import errno
import os
import re
import time
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from looped import looped
from scriptling_ws._handshakes.head import Refused, Request
from scriptling_ws._server import static as _static
from scriptling_ws._server.codings import accepted
from scriptling_ws._server.conditions import Validators, allows_range, is_unchanged
from scriptling_ws._server.ranges import wanted_range
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.static import StaticFiles
from servers import ask, head, serving

pytestmark = pytest.mark.once("it is about files")

LONG_AGO = 1_000_000_000
TEXT = b"0123456789"


@pytest.fixture
def folder(tmp_path):
    """A script with its compressed forms, a page, and a file without them; none is new."""
    (tmp_path / "sub").mkdir()
    for name, content in {
        "index.html": b"<p>app",
        "a.txt": TEXT,
        "empty.txt": b"",
        "app.js": b"let x = 1",
        "app.js.br": b"as brotli",
        "app.js.gz": b"as gzip",
        "old.js": b"let y = 2",
        "old.js.gz": b"of before",
        "sub/index.html": b"<p>sub",
    }.items():
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    os.utime(tmp_path / "old.js", (LONG_AGO + 60, LONG_AGO + 60))
    return tmp_path


def fetch(files, path="/a.txt", method="GET", **headers):
    """The status, the headers and the body of an answer."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        response = files(Request(method, path, fields, target=path))
    except Refused as refused:
        return refused.status, {name.lower(): value for name, value in refused.headers}, b""
    body = response.body
    if response.file is not None:
        with response.file as file:
            body = file.read(response.length)
    return response.status, {name.lower(): value for name, value in response.headers}, body


def test_what_a_file_is_known_by(folder):
    status, headers, body = fetch(StaticFiles("/", folder))
    assert (status, body) == (200, TEXT)
    assert headers["last-modified"] == formatdate(LONG_AGO, usegmt=True)
    assert re.fullmatch(r'"[0-9a-f]+-a"', headers["etag"])
    assert headers["accept-ranges"] == "bytes"
    assert headers["cache-control"] == "no-cache"
    assert "vary" not in headers


def test_a_file_that_was_just_changed_has_a_weak_etag(folder):
    (folder / "a.txt").write_bytes(TEXT)
    files = StaticFiles("/", folder)
    _, headers, _ = fetch(files)
    assert headers["etag"].startswith('W/"')
    assert fetch(files, if_none_match=headers["etag"])[0] == 304
    ranged = fetch(files, range="bytes=1-2", if_range=headers["etag"])
    assert ranged[::2] == (200, TEXT)
    assert fetch(files, range="bytes=1-2", if_range=headers["last-modified"])[0] == 200


def test_a_time_that_is_still_to_come(folder):
    os.utime(folder / "a.txt", (LONG_AGO * 3, LONG_AGO * 3))
    _, headers, _ = fetch(StaticFiles("/", folder))
    assert headers["last-modified"] <= formatdate(time.time() + 1, usegmt=True)[:16] + "~"


def test_the_client_has_it_already(folder):
    files = StaticFiles("/", folder, {"X-Own": "yes"})
    _, first, _ = fetch(files)
    for method in ("GET", "HEAD"):
        status, headers, body = fetch(files, method=method, if_none_match=first["etag"])
        assert (status, body) == (304, b"")
        for name in ("etag", "last-modified", "cache-control", "x-own"):
            assert headers[name] == first[name]


ETAG = '"1-a"'
KNOWN = Validators(ETAG, LONG_AGO)
BEFORE, THEN, AFTER = (formatdate(LONG_AGO + more, usegmt=True) for more in (-1, 0, 1))


@looped(
    ("headers", "unchanged"),
    [
        ({}, False),
        ({"if-none-match": ETAG}, True),
        ({"if-none-match": f"W/{ETAG}"}, True),
        ({"if-none-match": "*"}, True),
        ({"if-none-match": f'"x", W/"y,z" ,{ETAG}'}, True),
        ({"if-none-match": '"x"'}, False),
        ({"if-none-match": '"x' + ETAG}, False),
        ({"if-none-match": "1-a"}, False),
        ({"if-none-match": ""}, False),
        ({"if-none-match": '"x"', "if-modified-since": THEN}, False),
        ({"if-modified-since": THEN}, True),
        ({"if-modified-since": AFTER}, True),
        ({"if-modified-since": BEFORE}, False),
        ({"if-modified-since": "yesterday"}, False),
        ({"if-modified-since": "Xyz, 99 Foo 9999 99:99:99 GMT"}, False),
        ({"if-match": ETAG}, False),
        ({"if-match": "*"}, False),
        ({"if-match": f'"x", {ETAG}', "if-none-match": ETAG}, True),
        ({"if-match": f"W/{ETAG}"}, 412),
        ({"if-match": '"x"'}, 412),
        ({"if-match": '"x"', "if-unmodified-since": AFTER}, 412),
        ({"if-match": ETAG, "if-unmodified-since": BEFORE}, False),
        ({"if-unmodified-since": THEN}, False),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": "tomorrow"}, False),
    ],
)
def test_conditions(headers, unchanged):
    if unchanged == 412:
        with pytest.raises(Refused) as caught:
            is_unchanged(headers, KNOWN)
        assert caught.value.status == 412
    else:
        assert is_unchanged(headers, KNOWN) is unchanged


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        (None, True),
        (ETAG, True),
        (f"W/{ETAG}", False),
        ('"x"', False),
        (THEN, True),
        (BEFORE, False),
        (AFTER, False),
        ("*", False),
        ("", False),
    ],
)
def test_ranges_of_the_state_that_the_client_has(condition, allowed):
    headers = {} if condition is None else {"if-range": condition}
    assert allows_range(headers, KNOWN) is allowed


@looped(
    ("value", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 3)),
        ("bytes=2-", (2, 8)),
        ("bytes=2-99", (2, 8)),
        (f"bytes=2-{'9' * 5000}", (2, 8)),
        ("bytes=-3", (7, 3)),
        ("bytes=-99", (0, 10)),
        (f"bytes=-{'9' * 5000}", (0, 10)),
        ("Bytes = 00002-4 ", (2, 3)),
        ("bytes=4-2", None),
        ("bytes=0-1,3-4", None),
        ("bytes=" + "0-," * 2000, None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=1 - 2", None),
        ("bytes=\u0661-2", None),
        ("lines=0-1", None),
        ("", None),
        ("bytes=10-", 416),
        ("bytes=10-20", 416),
        ("bytes=-0", 416),
        (f"bytes={'9' * 5000}-", 416),
    ],
)
def test_which_part_is_wanted(value, part):
    if part == 416:
        with pytest.raises(Refused) as caught:
            wanted_range(value, 10)
        assert caught.value.status == 416
        assert dict(caught.value.headers)["Content-Range"] == "bytes */10"
    else:
        assert wanted_range(value, 10) == part


def test_the_last_bytes_of_an_empty_file(folder):
    """They can be asked for, other than its first ones (RFC 9110 section 14.1.2)."""
    files = StaticFiles("/", folder)
    status, headers, body = fetch(files, "/empty.txt", range="bytes=-5")
    assert (status, body) == (200, b"")
    assert "content-range" not in headers
    assert fetch(files, "/empty.txt", range="bytes=-0")[0] == 416
    assert fetch(files, "/empty.txt", range="bytes=0-")[0] == 416


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12))
def test_a_part_is_what_a_slice_is(first, last, size):
    content = bytes(range(size))
    for value, wanted in (
        (f"bytes={first}-{last}", content[first : last + 1] if first <= last else content),
        (f"bytes=-{last}", content[-last:] if last else b""),
    ):
        try:
            part = wanted_range(value, size)
        except Refused:
            assert wanted == b""
        else:
            start, length = (0, size) if part is None else part
            assert content[start : start + length] == wanted
            assert length > 0


def test_a_part_of_a_file(folder):
    files = StaticFiles("/", folder)
    status, headers, body = fetch(files, range="bytes=2-4")
    assert (status, headers["content-range"], body) == (206, "bytes 2-4/10", b"234")
    status, headers, body = fetch(files, range="bytes=-1")
    assert (status, headers["content-range"], body) == (206, "bytes 9-9/10", b"9")
    status, headers, body = fetch(files, range="bytes=2-4", method="HEAD")
    assert (status, "content-range" in headers) == (200, False)
    assert fetch(files, range="bytes=2-4", if_none_match=headers["etag"])[0] == 304
    status, headers, _ = fetch(files, range="bytes=10-")
    assert (status, headers["content-range"]) == (416, "bytes */10")
    assert fetch(files, "/empty.txt", range="bytes=0-")[0] == 416
    assert fetch(files, "/empty.txt")[::2] == (200, b"")


@looped(
    ("value", "names"),
    [
        (None, []),
        ("", []),
        ("gzip", ["gzip"]),
        ("gzip, br", ["br", "gzip"]),
        ("gzip, deflate, br, zstd", ["br", "zstd", "gzip"]),
        ("GZIP;q=1.0, br;Q=0.5", ["gzip", "br"]),
        ("*", ["br", "zstd", "gzip"]),
        ("*;q=0.1, br;q=0", ["zstd", "gzip"]),
        ("gzip;q=0", []),
        ("gzip;q=0.000", []),
        ("x-gzip", ["gzip"]),
        ("identity, gzip;q=0.5", []),
        ("identity;q=0, gzip;q=0.5", ["gzip"]),
        ("gzip;q=2", []),
        ("gzip;q=0.5;q=1", []),
        ("gzip br", []),
        ("gzip\x0b", []),
        ("," * 2000, []),
    ],
)
def test_which_forms_a_client_takes(value, names):
    assert accepted(value) == names


@pytest.mark.parametrize(
    ("accept", "coding", "body"),
    [
        (None, None, b"let x = 1"),
        ("gzip", "gzip", b"as gzip"),
        ("gzip, br", "br", b"as brotli"),
        ("zstd", None, b"let x = 1"),
    ],
)
def test_compressed_forms(folder, accept, coding, body):
    more = {} if accept is None else {"accept_encoding": accept}
    files = StaticFiles("/", folder)
    status, headers, content = fetch(files, "/app.js", **more)
    assert (status, headers.get("content-encoding"), content) == (200, coding, body)
    assert headers["vary"] == "Accept-Encoding"
    response = files(Request("GET", "/app.js", {"accept-encoding": accept or ""}))
    response.file.close()
    assert response.content_type == "text/javascript; charset=utf-8"
    again = fetch(files, "/app.js", if_none_match=headers["etag"], **more)
    assert again[0] == 304
    assert again[1]["vary"] == "Accept-Encoding"


def test_each_form_has_an_etag_of_its_own(folder):
    for suffix in ("", ".br", ".gz"):
        (folder / f"app.js{suffix}").write_bytes(b"same size")
        os.utime(folder / f"app.js{suffix}", (LONG_AGO, LONG_AGO))
    files = StaticFiles("/", folder)
    tags = {fetch(files, "/app.js", accept_encoding=name)[1]["etag"] for name in ("", "br", "gzip")}
    assert len(tags) == 3


def test_a_form_that_is_older_than_its_file_was_left_behind(folder):
    status, headers, body = fetch(StaticFiles("/", folder), "/old.js", accept_encoding="gzip")
    assert (status, body) == (200, b"let y = 2")
    assert "vary" not in headers


@pytest.mark.skipif(os.name == "nt", reason="needs symlinks and pipes")
def test_a_form_that_may_not_be_served(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("other") / "secret"
    secret.write_text("secret")
    (folder / "a.txt.br").symlink_to(secret)
    os.mkfifo(folder / "a.txt.gz")
    files = StaticFiles("/", folder)
    assert fetch(files, accept_encoding="br, gzip")[2] == TEXT
    (folder / "a.txt.gz").unlink()
    (folder / "a.txt.gz").mkdir()
    assert fetch(files, accept_encoding="br, gzip")[2] == TEXT


@pytest.mark.parametrize(
    "error", [FileNotFoundError(), PermissionError(), OSError(errno.EMFILE, "")]
)
def test_a_form_that_cannot_be_opened(folder, monkeypatch, error):
    """It is gone since it was found, or is another user's: the next one goes out, or the file."""
    real_open, lost = os.open, []

    def fail(path, *args):
        if str(path).endswith(tuple(lost)):
            raise error
        return real_open(path, *args)

    monkeypatch.setattr(_static.os, "open", fail)
    files = StaticFiles("/", folder)
    for suffix, coding, sent in ((".br", "gzip", b"as gzip"), (".gz", None, b"let x = 1")):
        lost.append(suffix)
        status, headers, body = fetch(files, "/app.js", accept_encoding="gzip, br")
        assert (status, headers.get("content-encoding"), body) == (200, coding, sent)
        assert headers["vary"] == "Accept-Encoding"


def test_a_part_of_a_compressed_form(folder):
    files = StaticFiles("/", folder)
    status, headers, body = fetch(files, "/app.js", accept_encoding="br", range="bytes=3-")
    assert (status, body) == (206, b"brotli")
    assert headers["content-range"] == "bytes 3-8/9"
    assert headers["content-encoding"] == "br"


def test_headers_of_the_directory(folder):
    files = StaticFiles("/", folder, {"cache-control": "max-age=9", "Vary": "Cookie"})
    headers = fetch(files, "/app.js")[1]
    assert headers["cache-control"] == "max-age=9"
    assert headers["vary"] == "Cookie, Accept-Encoding"
    assert fetch(files)[1]["vary"] == "Cookie"
    for name in ("ETag", "Last-Modified", "Content-Encoding", "Content-Type", "Content-Range"):
        with pytest.raises(ValueError, match="the same for all files"):
            StaticFiles("/", folder, {name: "x"})


PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.mark.parametrize("path", ["/rooms/5", "/john.doe", "/sub/none", "/a.txt/", "/.env", "/x/"])
def test_a_page_for_every_path(folder, path):
    files = StaticFiles("/", folder, fallback="index.html")
    status, headers, body = fetch(files, path, accept=PAGE)
    assert (status, body) == (200, b"<p>app")
    assert headers["vary"] == "Accept"
    assert fetch(files, path, accept="*/*")[0] == 404
    assert fetch(files, path)[0] == 404
    assert fetch(StaticFiles("/", folder), path, accept=PAGE)[0] == 404


def test_what_is_there_goes_before_the_fallback(folder):
    files = StaticFiles("/app", folder, fallback="index.html")
    assert fetch(files, "/app/a.txt", accept=PAGE)[2] == TEXT
    assert fetch(files, "/app/sub/", accept=PAGE)[2] == b"<p>sub"
    assert fetch(files, "/app/sub", accept=PAGE)[0] == 307
    status, headers, _ = fetch(files, "/app/none", accept=PAGE, if_none_match="*")
    assert (status, headers["vary"]) == (304, "Accept")


@pytest.mark.parametrize(
    ("fallback", "error"),
    [
        ("none.html", ValueError),
        ("../secret", ValueError),
        ("sub", ValueError),
        ("", ValueError),
        (5, TypeError),
    ],
)
def test_a_fallback_has_to_be_a_file_that_is_served(folder, fallback, error):
    with pytest.raises(error, match=r"fall back|fallback"):
        StaticFiles("/", folder, fallback=fallback)


def test_from_a_server(folder):
    routes = Routes()
    routes.static("/", folder, fallback="index.html")
    with serving(routes=routes) as server:
        answer = ask(server, head("/rooms/5", f"Accept: {PAGE}"))
        assert (answer.status, answer.body) == (200, b"<p>app")
        answer = ask(server, head("/app.js", "Accept-Encoding: gzip, br", "Range: bytes=3-5"))
        assert (answer.status, answer.body) == (206, b"bro")
        assert answer.headers["content-length"] == "3"
        answer = ask(server, head("/app.js", "If-None-Match: *"))
        assert (answer.status, answer.body) == (304, b"")
        assert "content-length" not in answer.headers
        assert "content-type" not in answer.headers
        answer = ask(server, head("/a.txt", "Range: bytes=5000-"))
        assert answer.status == 416
        assert answer.headers["content-range"] == "bytes */10"
        assert ask(server, head("/a.txt", 'If-Match: "x"')).status == 412
