"""Tables of the pages are held against the code: options, errors, extras, the engine's calls."""

import inspect
import re
import urllib.request

import pytest

import scriptling_ws as ws
from places import REPOSITORY
from scriptling_ws._network.contract import Engine
from scriptling_ws._options import Options
from scriptling_ws._server import metrics
from servers import TIMEOUT, echo, serving
from tables import read, rows, section

try:
    import tomllib
except ImportError:  # before Python 3.11
    tomllib = None

pytestmark = pytest.mark.once


def plain(text):
    """The cells of a text's tables, without the marks of code."""
    return [[cell.replace("`", "") for cell in row] for row in rows(text)]


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


OPTIONS = plain(section("docs/options.md", "The table"))


def documented(where):
    """The options of the table for one of its last column's names, with the text of each."""
    result = {}
    for names, defaults, targets in OPTIONS:
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
    (table,) = (cells for cells in OPTIONS if cells[0] == "timeout")
    assert f"{keywords(ws.connect)['timeout']} s (connect)" in table[1]
    receivers = (ws.Connection.receive, ws.Connection.receive_many, ws.Connection.ping)
    names = ", ".join(function.__name__ for function in receivers)
    for function in receivers:
        assert f"{keywords(function)['timeout']} s ({names})" in table[1]


# -- others --------------------------------------------------------------------


def test_errors():
    _, *table = plain(section("docs/errors.md", "The tree"))
    said = {name: set(kinds.split(", ")) for name, kinds, _ in table}
    found = {
        name: {base.__name__ for base in value.__bases__} - {"WebSocketError"} or {"Exception"}
        for name in ws.__all__
        if isinstance(value := getattr(ws, name), type) and issubclass(value, Exception)
    }
    assert said == found


@pytest.mark.skipif(tomllib is None, reason="tomllib is of Python 3.11")
def test_extras():
    """Each is there, with the packages that it installs."""
    _, *table = plain(section("docs/installing.md", "Extras"))
    said = {name: set(packages.split(", ")) for name, _, packages in table}
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert said == {
        name: {re.match(r"[\w-]+", each)[0] for each in needed} for name, needed in extras.items()
    }


def test_loggers():
    """All that the package writes to, but for the log of frames, which has a chapter of its own."""
    sources = (REPOSITORY / "src" / "scriptling_ws").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = {*re.findall(r'getLogger\("(scriptling_ws\.\w+)"\)', text)}
    page = section("docs/diagnosing.md", "The other logs")
    assert {row[0] for row in plain(page)[1:]} == named - {"scriptling_ws.frames"}


def test_metrics():
    """All figures that a server tells, and the words for its refusals."""
    _, *table = plain(section("docs/operations.md", "Metrics"))
    said = {name.strip() for names, *_ in table for name in names.split(",")}
    with serving(echo, metrics=True) as server:
        url = server.url.replace("ws://", "http://") + "/metrics"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            page = answer.read().decode()
    kinds = re.findall(r"^# TYPE scriptling_ws_(\w+) (?:counter|gauge|histogram)$", page, re.M)
    assert said == {name for name in kinds if not name.endswith("_created")}
    words = re.search(r"- The reasons: (.*?)\.$", read("docs/operations.md"), re.M | re.S)[1]
    assert set(re.findall(r"`(\w+)`", words)) == {
        *metrics._REASONS.values(),
        *metrics._BY_STATUS.values(),
        "other",
    }


def test_the_calls_of_the_engine():
    block = next(
        part
        for part in section("docs/design.md", "Waiting").split("\n\n")
        if part.lstrip().startswith("|")
    )
    _, *table = plain(block)
    calls = {re.sub(r"\(.*\)", "", call) for cells in table for call in cells[0].split(", ")}
    assert calls == {name for name in vars(Engine) if not name.startswith("_")} - {"name"}
