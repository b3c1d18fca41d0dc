"""The tables of the pages on moving in: what they name there is, here and in the other library."""

import ast
import importlib
import inspect
import re

import pytest

import code_blocks
import scriptling_ws as ws
import tables
from moving import PAGES, need
from scriptling_ws import _unknown, runtime, wsgi

pytestmark = pytest.mark.once

HERE = {name: page for name, (page, _) in PAGES.items() if name != "flask-sock"}
OPTIONS = set().union(*_unknown._TAKEN.values())

# What a name at the beginning of an expression stands for.
OURS = {
    "ws": ws,
    "wsgi": wsgi,
    "runtime": runtime,
    "conn": ws.Connection,
    "client": ws.Connection,
    "server": ws.Server,
    "room": ws.Room,
    "conns": ws.Reconnecting,
}
THEIRS = {
    "websocket-client": {"websocket": "websocket", "conn": "websocket:WebSocket"},
    "websockets": {
        "websocket": "websockets.sync.server:ServerConnection",
        "server": "websockets.sync.server:Server",
    },
    "simple-websocket": {"simple_websocket": "simple_websocket"},
    "gevent-websocket": {"client": "geventwebsocket.websocket:WebSocket"},
}


def found(reference):
    """What "module:name" leads to."""
    module, _, name = reference.partition(":")
    value = importlib.import_module(module)
    return getattr(value, name) if name else value


def chains(tree):
    """The dotted names of an expression, each as a list."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names = []
            while isinstance(node, ast.Attribute):
                names.insert(0, node.attr)
                node = node.value
            if isinstance(node, ast.Name):
                yield [node.id, *names]


def attributes(of):
    """The names of a class's instances too, which its annotations and its `__init__` have."""
    names = set(dir(of))
    for each in getattr(of, "__mro__", ()):
        names |= set(vars(each).get("__annotations__", ()))
        if "__init__" in vars(each) and inspect.isfunction(each.__init__):
            names |= set(inspect.unwrap(each.__init__).__code__.co_names)
    return names


def check(text, tree, meaning):
    """Whatever the expression names is there."""
    for first, name, *_ in chains(tree):
        if first in meaning:
            assert name in attributes(meaning[first]), f"{text}: there is no {first}.{name}"


def column(page, index):
    """The cells of one column of all tables, the headings left out."""
    found = re.findall(r"(?:^\|.*\n)+", code_blocks.read(page), re.M)
    return [row[index] for table in found for row in list(tables.rows(table))[1:]]


@pytest.mark.parametrize("library", HERE)
def test_what_is_named_here(library):
    cells = column(HERE[library], -1)
    expressions = list(tables.calls(cells))
    assert len(expressions) >= 10
    for text, tree in expressions:
        check(text, tree, OURS)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and "ws.connect" in ast.unparse(call.func):
                names = {word.arg for word in call.keywords}
                assert names <= set(inspect.signature(ws.connect).parameters) | OPTIONS, text


@pytest.mark.parametrize("library", HERE)
def test_options_that_are_named_here(library):
    """Of `name=value` outside of a call."""
    texts = re.findall(r"`([^`]+)`", " ".join(column(HERE[library], -1)))
    named = {name for text in texts for name in re.findall(r"(?:^|, )(\w+)=(?!=)", text)}
    assert len(named) >= 2
    assert named <= OPTIONS | set(inspect.signature(ws.connect).parameters)


@pytest.mark.parametrize("library", THEIRS)
def test_what_is_named_there(library):
    need(library)
    meaning = {name: found(reference) for name, reference in THEIRS[library].items()}
    checked = 0
    for text, tree in tables.calls(column(HERE[library], -2)):
        check(text, tree, meaning)
        checked += any(first in meaning for first, *_ in chains(tree))
    assert checked >= 4
