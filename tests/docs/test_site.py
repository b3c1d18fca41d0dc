"""The site of docs/: links lead somewhere, every public name is there, search works, phones do too.

`make docs` builds it and runs the tests of what is built; without a site these are skipped.
"""

import contextlib
import fnmatch
import importlib
import os
import re
import zlib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from code_blocks import read
from pages import chromium
from places import REPOSITORY
from scriptling_ws._server.routes import Routes
from servers import serving

pytestmark = pytest.mark.once("it is about pages")

SITE = Path(os.environ.get("SCRIPTLING_WS_SITE", "/nowhere")).resolve()
built = pytest.mark.skipif(not SITE.is_dir(), reason="there is no site: make docs")
MODULES = ("scriptling_ws", "scriptling_ws.runtime", "scriptling_ws.wsgi", "scriptling_ws.asgi")
DOCS = REPOSITORY / "docs"


# -- what the pages themselves say ---------------------------------------------


def test_every_page_is_in_the_navigation():
    """Each once: by its name, or by one with a star."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", read("docs/index.md"), re.M | re.S)
    lines = [line for tree in trees for line in tree.splitlines()]
    named = [line for line in lines if line and not line.startswith(":")]
    paths = [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]
    found = {path.relative_to(DOCS).with_suffix("").as_posix() for path in paths} - {"index"}
    assert {name for name in named if "*" not in name} <= found
    for page in found:
        assert sum(fnmatch.fnmatchcase(page, name) for name in named) == 1, page


def aliases():
    """The types that the reference writes out."""
    text = (DOCS / "reference" / "types.rst").read_text(encoding="utf-8")
    return re.findall(r"^\.\. py:type:: (\w+)\n   :canonical: (.+)$", text, re.M)


@pytest.mark.parametrize(("name", "meaning"), aliases())
def test_types_are_those_of_the_source(name, meaning):
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "src").rglob("*.py")
    )
    assert re.search(rf"^ *{name}(?:: TypeAlias)? = {re.escape(meaning)}$", source, re.M)


# -- the site ------------------------------------------------------------------


class Page(HTMLParser):
    """What of a page of the site matters to links."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = {"", "top"}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(filter(None, (attrs.get("id"), attrs.get("name"))))
        link = attrs.get("href") or attrs.get("src")
        if link and not (tag == "link" and attrs.get("rel") in ("canonical", "preconnect")):
            self.links.append(link)


@cache
def site():
    """All pages of the site."""
    return {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


@built
def test_every_link_leads_somewhere():
    count, wrong = 0, []
    for path, page in site().items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            there = target.is_file()
            if there and target.suffix == ".html":
                there = unquote(parts.fragment) in site()[target].anchors
            if not there:
                wrong.append((path.relative_to(SITE).as_posix(), link))
    assert wrong == []
    assert count > 1000


def inventory():
    """The names of the site's reference."""
    data = (SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(data).decode("utf-8").splitlines()
    return {line.split()[0] for line in lines if " py:" in line}


@built
def test_every_public_name_is_in_the_reference():
    names = inventory()
    for module in MODULES:
        for name in set(importlib.import_module(module).__all__) - {"__version__"}:
            assert f"{module}.{name}" in names


@built
def test_every_public_method_is_in_the_reference():
    names = inventory()
    api = read("tests/api.txt")
    for kind, body in re.findall(r"^class (\w+)\(.*\)\n((?:    .+\n)*)", api, re.M):
        if kind.endswith(("Options", "Error", "Timeout", "Closed")):
            continue
        for name in re.findall(r"^    (?:staticmethod )?([a-z]\w+)\(", body, re.M):
            ends = (f".{kind}.{name}", f".{BASES.get(kind)}.{name}")
            assert name in INTERNAL or any(full.endswith(ends) for full in names), (kind, name)


BASES = {"HTTP": "Routes"}
# Of a class that is public for its other methods.
INTERNAL = {"check", "deliver", "listens_anew", "tell_gap", "table", "clear"}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def home():
    """The site, as this package serves it."""
    routes = Routes()
    routes.static("/", SITE)
    with serving(routes=routes) as server:
        yield f"http://127.0.0.1:{server.port}"


@contextlib.contextmanager
def opened(browser, **options):
    """A page of a browser that has had no error in the end."""
    errors = []
    with contextlib.closing(browser.new_context(**options)) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        assert errors == []


@built
@pytest.mark.parametrize(
    ("words", "page"),
    [("reconnecting", "receiving.html"), ("SendTimeout", "reference/errors.html")],
)
def test_search_finds(browser, home, words, page):
    with opened(browser) as tab:
        tab.goto(f"{home}/search.html?q={words}")
        tab.locator(f'.search a[href*="{page}"]').first.wait_for(timeout=30_000)


@built
@pytest.mark.timeout(900)  # a page takes a second on a machine that is busy
def test_no_page_is_wider_than_the_screen(browser, home):
    """Neither on a phone nor on a desk."""
    wide = []
    with opened(browser) as tab:
        for path in site():
            name = path.relative_to(SITE).as_posix()
            tab.goto(f"{home}/{name}", wait_until="domcontentloaded")
            for width in (390, 1280):
                tab.set_viewport_size({"width": width, "height": 800})
                across = tab.evaluate("document.documentElement.scrollWidth")
                if across > width:
                    wide.append((name, across))
    assert wide == []
