"""What Chromium makes of pages: its cache and cookies, compressed files, kept connections."""

import gzip

import pytest

from browser import chromium
from programs import runs_once
from scriptling_ws.runtime import HTTP
from servers import echo, serving

pytestmark = runs_once

PAGE = "<!doctype html><title>app</title>"
SCRIPT = b"globalThis.loaded = 'compressed';"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def routes(folder, seen):
    table = HTTP()
    table.get("/login", lambda request: HTTP.redirect("/").with_cookie("session", "s3cret"))
    table.get("/mine", lambda request: request.cookies)
    table.get("/from", lambda request: request.remote_addr)

    def socket(client):
        seen.append(client.request.cookies)
        echo(client)

    table.websocket("/ws", socket)
    table.static("/", folder, fallback="index.html")
    return table


@pytest.fixture
def site(tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "app.js").write_bytes(b"globalThis.loaded = 'plain';")
    (tmp_path / "app.js.gz").write_bytes(gzip.compress(SCRIPT))
    (tmp_path / "data.json").write_text('{"n": 1}')
    return tmp_path


def test_a_file_that_it_has_is_not_sent_again(browser, site, log):
    with serving(routes=routes(site, [])) as server, browser.tab(server.page_url) as tab:
        fetch = "return (await (await fetch('/data.json')).json()).n"
        assert tab.run(fetch) == 1
        log.wait_for("'/data.json' 200")
        assert tab.run(fetch) == 1
        log.wait_for("'/data.json' 304")
        (site / "data.json").write_text('{"n": 22}')
        assert tab.run(fetch) == 22


def test_a_page_for_every_path_and_a_script_that_is_compressed(browser, site):
    with (
        serving(routes=routes(site, [])) as server,
        browser.tab(f"{server.page_url}rooms/5") as tab,
    ):
        assert tab.run("return document.title") == "app"
        assert tab.run("await import('/app.js'); return globalThis.loaded") == "compressed"
        assert tab.run("return (await fetch('/none.js')).status") == 404
        script = "return (await fetch('/app.js', {headers: {Range: 'bytes=0-9'}})).status"
        assert tab.run(script) == 206


def test_requests_of_a_page_come_by_connections_that_are_kept(browser, site):
    with serving(routes=routes(site, [])) as server, browser.tab(server.page_url) as tab:
        script = """
        const from = new Set();
        for (let i = 0; i < 20; i++) from.add(await (await fetch('/from?' + i)).text());
        return from.size"""
        assert tab.run(script) <= 2  # it may have opened one ahead


def test_a_cookie_is_the_servers_alone(browser, site):
    """The script does not see it, and the socket sends it."""
    seen = []
    with serving(routes=routes(site, seen)) as server, browser.tab(server.page_url) as tab:
        script = """
        await fetch('/login');
        const mine = await (await fetch('/mine')).json();
        const socket = new WebSocket(new URL('/ws', location.href.replace(/^http/, 'ws')));
        await new Promise((done) => { socket.onopen = done; });
        socket.send('x');
        await new Promise((done) => { socket.onmessage = done; });
        return [document.cookie, mine]"""
        assert tab.run(script) == ["", {"session": "s3cret"}]
        assert seen == [{"session": "s3cret"}]
