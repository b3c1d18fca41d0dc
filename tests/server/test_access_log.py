"""The access log in its formats: one line for each request, which no peer can forge."""

import json
import logging
import re
import time
from datetime import datetime, timezone

import pytest

from pairs import until
from proxied import binary, telling_routes
from scriptling_ws._server import access as _access
from scriptling_ws._server.access import FORMATS, Asked, log_to, make_access_log
from scriptling_ws._server.routes import Routes
from servers import (
    Answer,
    ask,
    dial,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    serving,
    status_of,
    upgrade,
)

pytestmark = pytest.mark.once("it is about what is written of a request")

TIME = (
    r"\[\d{2}/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
)
COMMON = rf'127\.0\.0\.1 - - {TIME} "(.*)" (\d{{3}}) (\d+|-)'
COMBINED = COMMON + r' "(.*)" "(.*)"'


class Lines:
    """What a log has of the access logger."""

    def __init__(self, log):
        self._log = log

    def __call__(self):
        return [r.message for r in self._log.records if r.name == "scriptling_ws.access"]

    def one(self):
        """The only line, once it has come."""
        until(self)
        (line,) = self()
        return line


@pytest.fixture
def lines(log):
    return Lines(log)


def matched(pattern, line):
    found = re.fullmatch(pattern, line)
    assert found, line
    return found.groups()


# -- lines -----------------------------------------------------------------


def test_a_page_in_the_common_format(lines):
    with serving(routes=routes_of(), access_log="common") as server:
        assert ask(server, head("/page?token=s3cret")).body == b"page"
    assert matched(COMMON, lines.one()) == ("GET /page HTTP/1.1", "200", "4")


def test_a_page_in_the_combined_format(lines):
    with serving(routes=routes_of(), access_log="combined") as server:
        asked = ("Referer: http://u:p@a.example/b?s3cret#c", 'User-Agent: curl/8.0 (x86; "y")')
        assert ask(server, head("/page", *asked, version="HTTP/1.0")).status == 200
    agent = r"curl/8.0 (x86; \"y\")"
    expected = ("GET /page HTTP/1.0", "200", "4", "http://a.example/b", agent)
    assert matched(COMBINED, lines.one()) == expected


def test_a_page_as_json(lines):
    with serving(routes=routes_of(), access_log="json") as server:
        asked = ("Referer: /b?s3cret", "User-Agent: é", "Cookie: s3cret", "Authorization: s3cret")
        with dial(server) as sock:
            own = "{}:{}".format(*sock.getsockname())
            sock.sendall(head("/page?s3cret", *asked, host="localhost:80"))
            assert Answer(read_all(sock)).status == 200
    line = lines.one()
    fields = json.loads(line)
    moment = datetime.fromisoformat(fields.pop("time").replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < 60
    assert 0 <= fields.pop("seconds") < 60
    assert fields == {
        "remote_addr": own,
        "peer_addr": own,
        "method": "GET",
        "host": "localhost:80",
        "path": "/page",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 4,
        "close_code": None,
        "referer": "/b",
        "user_agent": "é",
        "reason": "",
    }
    assert "s3cret" not in line
    assert line.isascii()


@pytest.mark.parametrize("form", FORMATS)
def test_a_websocket_has_one_line_at_its_end(lines, form, log):
    with serving(routes=routes_of(), access_log=form) as server:
        with raw_websocket(server, "/ws?s3cret") as client:
            client.send(1, b"hello")
            assert client.receive() == (1, b"hello")
            assert lines() == []
            client.send(8, b"\x0f\xa0")
            assert client.close_code() == 4000
        line = lines.one()
    if form == "json":
        fields = json.loads(line)
        assert (fields["status"], fields["close_code"], fields["path"]) == (101, 4000, "/ws")
        assert fields["bytes"] is None
        assert fields["seconds"] >= 0
    elif form == "common":
        assert matched(COMMON, line) == ("GET /ws HTTP/1.1", "101", "-")
    else:
        assert matched(COMBINED, line) == ("GET /ws HTTP/1.1", "101", "-", "-", "-")
    assert not any("s3cret" in text for text in log.texts())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("request_bytes", "status", "request_line"),
    [
        (head("/nothing?s3cret"), "404", "GET /nothing HTTP/1.1"),
        (upgrade("/ws", "Origin: http://evil.example"), "403", "GET /ws HTTP/1.1"),
        (head("/ws"), "426", "GET /ws HTTP/1.1"),
        (head("/page", method="PUT"), "405", "PUT /page HTTP/1.1"),
        (head("/a b?s3cret"), "400", "GET /a"),  # what is known of the beginning
        (b"hello\r\n\r\n", "400", "-"),
    ],
)
def test_refusals(lines, log, form, request_bytes, status, request_line):
    with serving(routes=routes_of(), access_log=form) as server:
        assert status_of(server, request_bytes) == int(status)
        line = lines.one()
    if form == "json":
        fields = json.loads(line)
        assert str(fields["status"]) == status
        assert fields["reason"]
        assert fields["bytes"] > 0
    else:
        pattern = COMMON if form == "common" else COMBINED
        assert matched(pattern, line)[:2] == (request_line, status)
    # Why is in the server's log.
    told = [
        r for r in log.records if r.name == "scriptling_ws.server" and f" {status}: " in r.message
    ]
    assert len(told) == 1
    assert not any("s3cret" in text for text in log.texts())


@pytest.mark.abuse(85)
@pytest.mark.parametrize("form", FORMATS)
def test_no_peer_forges_a_line(lines, form):
    """Bytes that a head may have: quotes, escapes, and all of Latin-1."""
    nasty = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)]).decode("latin-1").strip()
    nasty += '" 200 5 "-" "-'
    with serving(routes=routes_of(), access_log=form) as server:
        asked = (f"User-Agent: {nasty}", f"Referer: x{nasty}")
        assert status_of(server, head('/no%0a%22"x', *asked)) == 404
        line = lines.one()
    assert line.isascii()
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["user_agent"] == nasty
        assert json.loads(line)["path"] == '/no%0a%22"x'
        return
    assert line.startswith("127.0.0.1 - - [")
    quoted = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    assert quoted[0] == r"GET /no%0a%22\"x HTTP/1.1"
    assert len(quoted) == (1 if form == "common" else 3)
    if form == "combined":
        assert quoted[2].encode().decode("unicode_escape") == nasty


def test_a_line_is_bounded(lines):
    with serving(routes=routes_of(), access_log="json") as server:
        asked = [f"{name}: {'x' * 8000}" for name in ("User-Agent", "Referer")]
        assert status_of(server, head("/" + "y" * 8000, *asked)) == 404
        line = lines.one()
    assert len(line) < 5000
    assert json.loads(line)["path"] == "/" + "y" * 999 + "..."


def test_what_was_no_request_has_no_line(lines, log):
    with serving(routes=routes_of(), access_log="json", handshake_timeout=0.2) as server:
        with dial(server) as sock:
            assert read_all(sock) == b""
        assert log.wait_for("no request came").name == "scriptling_ws.server"
    assert lines() == []


def test_the_answer_to_head_has_no_bytes(lines):
    with serving(routes=routes_of(), access_log="common") as server:
        assert status_of(server, head("/page", method="HEAD")) == 200
    assert matched(COMMON, lines.one()) == ("HEAD /page HTTP/1.1", "200", "0")


def test_a_file_has_its_size(lines, tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(100_000))
    routes = Routes()
    routes.static("/", tmp_path)
    with serving(routes=routes, access_log="common") as server:
        assert len(ask(server, head("/a.txt")).body) == 100_000
    assert matched(COMMON, lines.one()) == ("GET /a.txt HTTP/1.1", "200", "100000")


def test_a_page_that_fails_has_its_reason(lines):
    routes = routes_of(page=lambda request: 1 / 0)
    with serving(routes=routes, access_log="json") as server:
        assert status_of(server, head("/page")) == 500
    fields = json.loads(lines.one())
    assert (fields["status"], fields["reason"]) == (500, "the page handler failed")


def test_the_client_behind_a_proxy(lines):
    options = {"trusted_proxies": ["127.0.0.1"], "access_log": "json"}
    with serving(routes=telling_routes(), **options) as server, dial(server) as sock:
        own = "{}:{}".format(*sock.getsockname())
        sock.sendall(head("/who", "X-Forwarded-For: 2001:db8::7"))
        assert Answer(read_all(sock)).status == 200
    fields = json.loads(lines.one())
    assert (fields["remote_addr"], fields["peer_addr"]) == ("[2001:db8::7]", own)


def test_the_client_of_a_proxy_header(lines):
    options = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True, "access_log": "common"}
    with serving(routes=telling_routes(), **options) as server, dial(server) as sock:
        sock.sendall(binary() + upgrade("/who"))
        assert b" 101 " in read_until(sock, b"\r\n\r\n")
    assert lines.one().startswith("192.0.2.7 - - [")


# -- times -----------------------------------------------------------------


def test_times_do_not_depend_on_the_zone_of_the_machine():
    assert _access._utc_time(1_790_000_000.0004) == "2026-09-21T14:13:20.000Z"
    assert _access._utc_time(0.9999) == "1970-01-01T00:00:00.999Z"
    assert [_access._offset(s) for s in (0, 3600, -12_600, 20_700)] == [
        "+0000",
        "+0100",
        "-0330",
        "+0545",
    ]
    local = _access._local_time(1_790_000_000)
    assert time.strptime(local, "%d/%b/%Y:%H:%M:%S %z")
    assert "/Sep/2026:" in local


# -- where it goes ---------------------------------------------------------


@pytest.fixture
def kept():
    """The access logger as it was, afterwards."""
    logger = logging.getLogger("scriptling_ws.access")
    before = logger.level, logger.propagate
    yield logger
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    level, logger.propagate = before
    logger.setLevel(level)


def test_a_file_that_is_moved_is_opened_anew(kept, tmp_path):
    name = tmp_path / "access.log"
    log_to(str(name))
    with serving(routes=routes_of(), access_log="common") as server:
        assert status_of(server, head("/page")) == 200
        until(lambda: name.read_text().count("\n") == 1)
        name.rename(tmp_path / "access.log.1")
        assert status_of(server, head("/nothing")) == 404
        until(name.exists)
        until(lambda: name.read_text().count("\n") == 1)
    assert " 404 " in name.read_text()
    assert " 200 " in (tmp_path / "access.log.1").read_text()


def test_a_file_that_cannot_be_opened_anew_fails_no_request(kept, tmp_path, capsys):
    folder = tmp_path / "logs"
    folder.mkdir()
    log_to(str(folder / "access.log"))
    with serving(routes=routes_of(), access_log="common") as server:
        folder.rename(tmp_path / "gone")
        for _ in range(3):
            assert status_of(server, head("/page")) == 200
            assert status_of(server, head("/nothing")) == 404
        with raw_websocket(server, "/ws") as client:
            client.send(8, b"\x03\xe8")
            assert client.close_code() == 1000
    assert "FileNotFoundError" in capsys.readouterr().err


def test_a_file_that_cannot_be_written():
    with pytest.raises(OSError):
        log_to("/nowhere/at/all")


@pytest.mark.parametrize("form", ["apache", "", True, ["json"], 1])
def test_formats_that_cannot_be(form):
    with pytest.raises(ValueError, match="'common', 'combined' or 'json'"):
        make_access_log(form)


def test_a_log_that_nobody_hears_makes_no_lines(kept):
    kept.setLevel(logging.ERROR)
    made = []
    log = _access._FormattedLog(made.append)
    log.answered(None, Asked("GET", "/"), 200)
    assert not made
    kept.setLevel(logging.INFO)
    log.answered(None, Asked("GET", "/"), 200)
    assert len(made) == 1
