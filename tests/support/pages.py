"""The examples' pages in Chromium, as Playwright drives it, and axe-core, which judges them.

Rules:

- `make programs` installs Chromium, the group `test` has Playwright, `make peers` axe-core. Where
  one is missing its tests are skipped by name, unless SCRIPTLING_WS_PROGRAMS=yes (for axe-core
  SCRIPTLING_WS_PEERS=yes), where they fail.
- One browser runs for all tests of a file. Each visitor has a profile of its own, which is gone
  with it.
- What Playwright waits for has a deadline, and nothing waits for a time to pass: where a page does,
  its clock is set forward.
- A page has no error of its own, and asks its own server alone.
"""

import contextlib
import importlib.util
import struct
import sys
import zlib
from random import Random
from urllib.parse import urlsplit

import pytest

import foreign
import programs
from browser import NAMES
from channels import FREE_THREADED
from places import TESTS

AXE = TESTS / "peers" / "node_modules" / "axe-core" / "axe.min.js"
SECONDS = 15
# Where the group `test` is installed, and not `test-base` alone.
HAS_PLAYWRIGHT = sys.implementation.name == "cpython" and not FREE_THREADED
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--ignore-certificate-errors"]


@contextlib.contextmanager
def chromium():
    """A browser that runs; without one, or without Playwright, the test is skipped."""
    path = programs.find(*NAMES)
    if importlib.util.find_spec("playwright") is None:
        reason = "playwright is not installed: pip install --group test"
        assert not programs.REQUIRED or not HAS_PLAYWRIGHT, reason
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS * 1000)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=FLAGS) as browser,
    ):
        yield browser


@contextlib.contextmanager
def visitor(browser, url, **options):
    """A page of a visitor with a profile of its own. In the end it has had no error."""
    errors = []
    place = urlsplit(url).netloc

    def asked(request):
        if urlsplit(request.url).netloc != place and not request.url.startswith(("blob:", "data:")):
            errors.append(f"the page asks {request.url}")

    with contextlib.closing(browser.new_context(**{"locale": "en-GB", **options})) as context:
        context.set_default_timeout(SECONDS * 1000)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", asked)
        page.on("console", lambda message: _heed(message, errors))
        page.goto(url)
        yield page
        assert errors == []


def _heed(message, errors):
    # That a server is not there, or wants a token, is said by the browser itself.
    its_own = ("WebSocket connection to", "the server responded with a status of 401")
    if message.type == "error" and not any(text in message.text for text in its_own):
        errors.append(message.text)


def findings(page):
    """What axe-core finds wrong with a page: each with its rule and its elements."""
    if not AXE.is_file():
        reason = "axe-core is not installed: make peers"
        assert not foreign.REQUIRED, reason
        pytest.skip(reason)
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    result = page.evaluate("axe.run(document, { resultTypes: ['violations', 'incomplete'] })")
    # What it cannot decide is a finding too: nothing here should be so.
    return [
        (found["id"], found["help"], [node["html"] for node in found["nodes"]])
        for found in result["violations"] + result["incomplete"]
    ]


def picture(width, height, seed=None):
    """A PNG: of noise, which no format makes small, or of one colour."""
    row = bytes([40, 90, 160]) * width
    noise = Random(seed)
    rows = (row if seed is None else noise.randbytes(3 * width) for _ in range(height))
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 1)
    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack("!I", len(body)) + kind + body + struct.pack("!I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
