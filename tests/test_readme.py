"""The README and the pages: their examples run, their figures and defaults are those of the code.

What the README says of behaviour has its tests elsewhere, where that behaviour is tested.
"""

import http.client
import inspect
import itertools
import re

import pytest

import scriptling_ws as ws
from code_blocks import PAGES, blocks_at, read, slug
from pairs import until
from places import REPOSITORY
from processes import Process
from scriptling_ws._network.contract import Engine
from scriptling_ws._options import Options
from snippets import ANNOUNCED

pytestmark = pytest.mark.once("the examples do what they say; how, other tests have")

TIMEOUT = 20


def section(page, title):
    """What is under a heading."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", read(page), re.M | re.S)
    assert found, f"{page} has no section {title!r}"
    return found[1]


def rows(text):
    """The cells of a text's tables, without the lines under headings and code's marks."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.replace("`", "").strip().strip("|").split("|")]
        if line.startswith("|") and not set(line) <= set("|-"):
            yield cells


def tables(page, title):
    """The tables of a section, each as its rows."""
    blocks = section(page, title).split("\n\n")
    return [list(rows(block)) for block in blocks if block.lstrip().startswith("|")]


# -- the examples --------------------------------------------------------------


def lines_of(code):
    return [line for line in code.splitlines() if line and not line.startswith("#")]


@pytest.mark.blocks("README.md#a-client", "README.md#a-server 1")
def test_client_and_server(blocks):
    client, server = blocks
    assert len(lines_of(client.text)) <= 6
    assert len(lines_of(server.text)) <= 6
    assert server.text.count("8080") == client.text.count("8080") == 1
    with Process.python("-c", ANNOUNCED + server.changed({", port=8080": ""})) as process:
        code = client.changed({"8080": process.line()})
        with Process.python("-c", code) as talking:
            assert talking.finish() == (["hello", "[1, 2, 255] True"], 0)


@pytest.mark.blocks("README.md#a-server 2")
def test_setup_script(blocks, tmp_path):
    (setup,) = blocks
    (server,) = blocks_at("README.md#a-server 1")
    (tmp_path / "setup.py").write_text(setup.text, encoding="utf-8")
    handler = (
        server.text.partition("\n\n\n")[2].partition("\n\n\n")[0].replace("echo", "chat_handler")
    )
    (tmp_path / "handlers.py").write_text(f"import scriptling_ws as ws\n\n\n{handler}\n")
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "index.html").write_text("the page")
    command = re.search(r"started with: scriptling-ws (.+)", setup.text)[1].replace("8080", "0")
    with Process.python("-m", "scriptling_ws", *command.split(), cwd=tmp_path) as server:
        url = re.search(r"ws://\S+", server.line_with("ws://"))[0]
        with ws.connect(f"{url}/chat") as conn:
            conn.send("hello")
            assert conn.receive(TIMEOUT) == "hello"
        page = http.client.HTTPConnection(url.removeprefix("ws://"), timeout=TIMEOUT)
        page.request("GET", "/")
        assert page.getresponse().read() == b"the page"
        page.close()


@pytest.mark.blocks("README.md#a-server 3")
def test_room(blocks):
    assert len(lines_of(blocks[0].text)) <= 7
    with Process.python("-c", ANNOUNCED + blocks[0].text) as server:
        url = f"ws://127.0.0.1:{server.line()}"
        with ws.connect(url) as one, ws.connect(url) as two:
            until(lambda: one.send("hello") or two.receive(0) == "hello")
            assert one.receive(0) is None


# -- the options ---------------------------------------------------------------


def keywords(function, *without):
    """The parameters that have a default, and this."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty and name not in without
    }


UNITS = {"": 1, " KiB": 1024, " MiB": 1024 * 1024}


def agrees(text, default):
    """Whether the table's text begins with this default; None it may put in words."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        number, unit = re.match(r"(0o[0-7]+|[\d,]+)( [KM]iB)?", text).groups("")
        return int(number.replace(",", ""), 0) * UNITS[unit] == default
    return default in (None, ()) or text.startswith(getattr(default, "__name__", str(default)))


def documented(where):
    """The options of the table for one of its last column's names, with the text of each."""
    result = {}
    for names, defaults, targets in rows(section("README.md", "Options")):
        names = names.split(", ")
        if where in targets.split(", "):
            texts = defaults.split(", ") if len(names) > 1 else [defaults]
            assert len(names) == len(texts), f"{names} have the defaults {texts}"
            result.update(zip(names, texts, strict=True))
    return result


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("connect", {**keywords(ws.connect, "timeout"), **keywords(Options)}),
        # Those that are left out say what is served, and who is told.
        (
            "serve",
            {
                **keywords(ws.serve, "handler", "ready"),
                **keywords(ws.Server, "handler", "routes"),
                **keywords(Options),
            },
        ),
        ("a route", keywords(Options)),
    ],
)
def test_options(where, options):
    table = documented(where)
    of_routes = set() if where == "connect" else {"origins", "subprotocols", "authorize"}
    assert set(table) == set(options) | of_routes
    for name, default in options.items():
        assert agrees(table[name], default), f"{name}: {table[name]}"


def test_timeouts():
    (table,) = (cells for cells in rows(section("README.md", "Options")) if cells[0] == "timeout")
    assert f"{keywords(ws.connect)['timeout']} s (connect)" in table[1]
    receivers = (ws.Connection.receive, ws.Connection.receive_many, ws.Connection.ping)
    names = ", ".join(function.__name__ for function in receivers)
    for function in receivers:
        assert f"{keywords(function)['timeout']} s ({names})" in table[1]


def test_the_calls_of_the_engine():
    _, *table = tables("docs/design.md", "Waiting")[0]
    calls = {re.sub(r"\(.*\)", "", call) for cells in table for call in cells[0].split(", ")}
    assert calls == {name for name in vars(Engine) if not name.startswith("_")} - {"name"}


# -- the figures ---------------------------------------------------------------


def measured():
    """The first table of messages a second: each row by its name, each cell by its column."""
    text = read("docs/performance.md").partition("Client and far end on one core:\n")[2]
    heading, *cells = rows(text.partition("\n\n| client's")[0])
    return {row[0]: dict(zip(heading, row, strict=True)) for row in cells}


def test_speed():
    (heading, *table), _ = tables("README.md", "Speed")
    columns = ["floor", *heading[2:]]
    assert heading[1] == "bare socket"
    columns = [column.removesuffix(" (asyncio)") for column in columns]
    figures = measured()
    for name, *cells in table:
        assert cells == [figures[name][column] for column in columns], name


SERVERS = {
    "threads": "scriptling-ws: threads",
    "bare threads, without frames": "bare threads",
    "websockets.sync": "websockets.sync",
    "gevent": "scriptling-ws: gevent",
    "picows on uvloop": "picows",
}


def test_speed_of_servers():
    _, (heading, *table) = tables("README.md", "Speed")
    _, (columns, *measured), *_ = tables("docs/performance.md", "The server under load")
    figures = {row[0]: dict(zip(columns, row, strict=True)) for row in measured}
    assert heading[1:] == list(SERVERS)
    for number, *cells in table:
        found = figures[f"echo, {number} active"]
        assert cells == [found[column] for column in SERVERS.values()], number


def test_every_missed_target_is_explained():
    """Its ratio is in the table of what was missed, as it is or rounded."""
    page = read("docs/performance.md")
    explained = section_of_missed(page)
    missed = re.findall(r"\| ([\d.]+)(?: \([^|]*)? \| missed", page)
    missed += re.findall(r"([\d.]+) KiB (?:traced|resident)[^|]*\| missed", page)
    assert len(missed) > 20
    for ratio in missed:
        assert {ratio, f"{float(ratio):.1f}"} & explained, ratio


def section_of_missed(page):
    """The numbers of that table."""
    text = page.partition("### What was missed, and the limit\n")[2].partition("\n## ")[0]
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def test_speed_says_when_and_where():
    said = section("README.md", "Speed")
    page = section("docs/performance.md", "Measured")
    for fact in (r"\d{4}-\d\d-\d\d, CPython [\d.]+", r"websocket-rs [\d.]+\d", r"picows [\d.]+\d"):
        assert re.search(fact, said.replace("\n", " "))[0] in page


def test_conformance():
    cases, good, informational = re.search(
        r"the (\d+) cases of the Autobahn testsuite (\d+) are OK and (\d+)\s+INFORMATIONAL",
        read("README.md"),
    ).groups()
    heading, *runs = rows(read("docs/conformance.md"))
    runs = [dict(zip(heading, run, strict=True)) for run in runs]
    ends = {(run["role"], run["codec"]) for run in runs}
    both = ("client", "server"), ("compiled", "pure")
    assert ends == set(itertools.product(*both))
    for run in runs:
        assert (run["cases"], run["OK"]) == (cases, good)
        assert run["INFORMATIONAL"] == informational


# -- names, links and commands ---------------------------------------------------

LINKED = set(re.findall(r"\]\(([^)#]+\.md)", read("README.md")))


@pytest.mark.parametrize("name", ws.__all__)
def test_every_public_name_is_on_a_page(name):
    """The README has it, or a page that the README links."""
    pages = ["README.md", *LINKED - {"docs/design.md", "docs/performance.md"}]
    assert any(re.search(rf"`[^`]*\b{name}\b|\b{name}\(", read(page)) for page in pages)


def test_the_table_of_errors():
    _, *table = tables("README.md", "Errors")[0]
    said = {name: set(kinds.split(", ")) for name, kinds, _ in table}
    found = {
        name: {base.__name__ for base in value.__bases__} - {"WebSocketError"} or {"Exception"}
        for name in ws.__all__
        if isinstance(value := getattr(ws, name), type) and issubclass(value, Exception)
    }
    assert said == found


def anchors(page):
    """What a link to a part of a page may name."""
    titles = re.findall(r"^#+ (.+)$", read(page), re.M)
    return {slug(title) for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    for link in re.findall(r"\]\(([^)]+)\)", read(page)):
        if not link.startswith("https://"):
            path, _, part = link.partition("#")
            target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
            assert target.exists(), link
            assert not part or part in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_make(page):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    text = re.sub(r"\s+", " ", read(page))
    named = set(re.findall(r"`make ([a-z-]+)", text))
    named |= set(re.findall(r"^make ([a-z-]+)", read(page), re.M))
    assert named <= targets
