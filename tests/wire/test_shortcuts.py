"""Shortcuts of a connection's methods: which calls C takes, and that others are the function's."""

import functools
import gc
import inspect
import pickle
import pydoc
import sys
import types
import typing
import weakref
from decimal import Decimal
from unittest import mock

import pytest

from channels import End
from frames import raw_frame
from kernels import BINARY, TEXT
from scriptling_ws import Connection

QUICK = {"send": ("x",), "send_text": (b"x",), "send_binary": (b"x",), "receive": (5,)}


def methods_of(way):
    """A class as Connection is: its functions note that they were called, and with what."""
    shortcut = way.channel.shortcut

    class Methods:
        """Methods with shortcuts."""

        def __init__(self, end):
            self._shortcuts = way.channel.Shortcuts(end.channel, end.reader, end.writer)
            self.calls = []

        @shortcut
        def send(self, message: str, compress: bool = True, *, timeout: object = ...) -> object:
            """Send a text."""
            self.calls.append((message, compress, timeout))
            return "by the function"

        @shortcut
        def send_text(self, text, compress=True, *, timeout=...):
            self.calls.append((text, compress, timeout))
            return "by the function"

        @shortcut
        def send_binary(self, data, compress=True, *, timeout=...):
            self.calls.append((data, compress, timeout))
            return "by the function"

        @shortcut
        def receive(self, timeout=30):
            self.calls.append((timeout,))
            return "by the function"

    return Methods


@pytest.fixture
def end(way):
    with End(way) as each:
        yield each


@pytest.fixture
def methods(end):
    return methods_of(end.way)(end)


def compiled(way):
    return way.name != "pure"


def test_in_the_pure_kernel_it_is_the_function(end, methods):
    if compiled(end.way):
        pytest.skip("it is the compiled one")
    for name, arguments in QUICK.items():
        assert inspect.isfunction(vars(type(methods))[name])
        assert type(vars(type(methods))[name]) is types.FunctionType
        assert getattr(methods, name)(*arguments) == "by the function"
    assert end.arrived() == b""


@pytest.mark.parametrize("name", ["close", "receive_many", "send_"])
def test_of_another_name_there_is_none(way, name):
    def function(self, message):
        """Do nothing."""

    function.__name__ = name
    with pytest.raises(ValueError, match=rf"there is no shortcut for {name}\(\)"):
        way.channel.shortcut(function)


@pytest.fixture
def quick(end, methods):
    if not compiled(end.way):
        pytest.skip("the pure kernel has none")
    return methods


@pytest.mark.parametrize(
    ("name", "message", "first", "payload"),
    [
        ("send", "é", TEXT, "é".encode()),
        ("send", "x" * 5000, TEXT, b"x" * 5000),
        ("send_text", b"\xc3\xa9", TEXT, b"\xc3\xa9"),
        ("send_binary", b"\0\xff", BINARY, b"\0\xff"),
        ("send_binary", [0, 255], BINARY, b"\0\xff"),
        ("send_binary", (), BINARY, b""),
    ],
)
def test_the_usual_sends_are_in_c(end, quick, name, message, first, payload):
    assert getattr(quick, name)(message) is None
    assert getattr(type(quick), name)(quick, message) is None
    assert functools.partial(getattr(quick, name), message)() is None
    assert end.frames() == [(first, payload)] * 3
    assert not quick.calls


@pytest.mark.parametrize("timeout", [(), (30,), (None,), (0,), (0.0,), (0.5,), (float("inf"),)])
def test_the_usual_receives_are_in_c(end, quick, timeout):
    end.ready.extend(["ready", b"too"])
    with end.channel.reading:  # which what is ready does not need
        assert quick.receive(*timeout) == "ready"
        assert quick.receive(*timeout) == b"too"
    end.arrive(raw_frame(TEXT, b"came"))
    end.reader.reads = True
    assert quick.receive(*timeout) == "came"
    assert not quick.calls


def test_a_receive_that_comes_to_nothing_is_none(end, quick):
    end.reader.reads = True
    assert quick.receive(0) is None
    assert quick.receive(0.001) is None
    assert not quick.calls


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "called"),
    [
        ("send", ("x", False), {}, ("x", False, ...)),
        ("send", (), {"message": "x"}, ("x", True, ...)),
        ("send", ("x",), {"timeout": 1}, ("x", True, 1)),
        ("send", ({"a": 1},), {}, ({"a": 1}, True, ...)),
        ("send", (b"x",), {}, (b"x", True, ...)),
        ("send", ("\ud800",), {}, ("\ud800", True, ...)),
        ("send_text", ("x",), {}, ("x", True, ...)),
        ("send_text", (b"\xff",), {}, (b"\xff", True, ...)),
        ("send_binary", (bytes(256 * 1024 + 1),), {}, (bytes(256 * 1024 + 1), True, ...)),
        ("send_binary", (range(3),), {}, (range(3), True, ...)),
        ("send_binary", (None,), {"compress": 1}, (None, 1, ...)),
        ("receive", (), {"timeout": 0}, (0,)),
        ("receive", (-1,), {}, (-1,)),
        ("receive", (True,), {}, (True,)),
        ("receive", ("1",), {}, ("1",)),
        ("receive", (Decimal(1),), {}, (Decimal(1),)),
        ("receive", (1 << 80,), {}, (1 << 80,)),
    ],
)
def test_what_is_not_usual_is_the_functions(end, quick, name, arguments, keywords, called):
    end.ready.append("ready")
    assert getattr(quick, name)(*arguments, **keywords) == "by the function"
    assert quick.calls == [called]
    assert end.arrived() == b""
    assert list(end.ready) == ["ready"]


def test_nan_is_the_functions(quick):
    assert quick.receive(float("nan")) == "by the function"


@pytest.mark.parametrize("change", ["closed", "compresses", "busy", "unsent"])
def test_what_cannot_be_sent_at_once_is_the_functions(end, quick, change):
    if change == "busy":
        end.channel.writing.acquire()
    elif change == "unsent":
        end.answers.append(b"\x8a\0")
    else:
        end.channel.open, end.channel.compresses = change != "closed", change == "compresses"
    for name in ("send", "send_text", "send_binary"):
        assert getattr(quick, name)(*QUICK[name]) == "by the function"
    assert len(quick.calls) == 3
    assert end.arrived() == b""


def test_wrong_numbers_of_arguments_are_the_functions(quick):
    for call in (quick.send, quick.send_text, quick.send_binary, type(quick).receive):
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            call()
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3"):
        quick.receive(1, 2)


def test_an_object_without_what_it_needs_has_the_function(end, quick):
    del quick._shortcuts
    assert quick.send("x") == "by the function"
    quick._shortcuts = object()
    assert quick.send("x") == "by the function"
    with pytest.raises(AttributeError, match="'int' object has no attribute 'calls'"):
        type(quick).send(5, "x")

    class Refusing:
        @property
        def _shortcuts(self):
            raise LookupError

    with pytest.raises(LookupError):
        type(quick).send(Refusing(), "x")
    assert end.arrived() == b""


@pytest.mark.parametrize(
    ("item", "error"), [(256, ValueError), ("x", TypeError), (True, TypeError)]
)
def test_what_is_raised_in_c_comes_out(end, quick, item, error):
    with pytest.raises(error):
        quick.send_binary([1, item])
    assert not quick.calls
    assert end.arrived() == b""


def test_what_the_reader_raises_comes_out(end, quick):
    def fail(*_):
        raise LookupError

    end.reader.receive = fail
    end.far.close()
    with pytest.raises(LookupError):
        quick.receive(5)
    assert not quick.calls


def test_no_reference_is_kept_or_lost(end, quick):
    message = "message".join("<>")
    for call, given in ((quick.send, message), (quick.send, 5), (quick.receive, 0)):
        before = sys.getrefcount(given), sys.getrefcount(quick), sys.getrefcount(quick._shortcuts)
        for _ in range(50):
            call(given)
        quick.calls.clear()
        end.drain()
        after = sys.getrefcount(given), sys.getrefcount(quick), sys.getrefcount(quick._shortcuts)
        assert after == before
    end.ready.extend([message] * 50)
    before = sys.getrefcount(message)
    for _ in range(50):
        assert quick.receive() is message
    assert sys.getrefcount(message) == before - 50


def test_a_subclass_can_override_and_call_it(end, quick):
    class Shouting(type(quick)):
        def send(self, message):
            return super().send(message.upper())

    assert Shouting(end).send("x") is None
    assert end.frames() == [(TEXT, b"X")]


# ---- what else is asked of it is as the function ----


def test_it_looks_like_the_function(quick):
    send = type(quick).send
    function = send.__wrapped__
    assert inspect.isfunction(send)
    assert inspect.isroutine(send)
    assert inspect.ismethod(quick.send)
    assert inspect.signature(send) == inspect.signature(function)
    assert list(inspect.signature(quick.send).parameters) == ["message", "compress", "timeout"]
    assert inspect.getsource(send) == inspect.getsource(function)
    assert inspect.getdoc(quick.send) == send.__doc__ == "Send a text."
    assert typing.get_type_hints(send) == typing.get_type_hints(function)
    for name in (
        "__name__",
        "__qualname__",
        "__module__",
        "__defaults__",
        "__kwdefaults__",
        "__code__",
    ):
        assert getattr(send, name) == getattr(function, name)
    assert repr(send) == repr(function)
    assert not hasattr(send, "unknown")
    assert "Send a text." in pydoc.render_doc(type(quick))
    assert weakref.WeakMethod(quick.send)() == quick.send
    with pytest.raises(AttributeError):
        send.__doc__ = "Another text."


def test_a_mock_of_the_class_checks_what_it_is_called_with():
    conn = mock.create_autospec(Connection, instance=True)
    conn.send("x", timeout=5)
    with pytest.raises(TypeError):
        conn.send("x", True, 5)


def test_its_type_makes_no_objects(quick):
    with pytest.raises(TypeError, match="cannot create"):
        type(vars(type(quick))["send"])()


def test_connections_methods_can_be_pickled_by_name():
    for name in QUICK:
        method = getattr(Connection, name)
        assert pickle.loads(pickle.dumps(method)) is method


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info < (3, 14),
    reason="no class is collected there",
)
def test_a_class_with_shortcuts_is_collected(way):
    reference = weakref.ref(methods_of(way))
    gc.collect()
    assert reference() is None
