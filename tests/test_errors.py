"""The tree of exceptions: what each is an instance of, carries, and says."""

import copy
import errno
import os
import pickle
import socket
import ssl
import traceback

import pytest

import scriptling_ws
from looped import looped
from scriptling_ws import _errors
from scriptling_ws._errors import (
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    HandshakeError,
    InvalidMessage,
    InvalidURL,
    ProtocolError,
    ProxyError,
    ReceiveTimeout,
    RoomError,
    SendTimeout,
    WebSocketError,
    without_close_frame,
)

pytestmark = pytest.mark.once


def test_a_traceback_names_an_error_as_a_program_does():
    said = traceback.format_exception_only(ConnectTimeout("too late"))
    assert said == ["scriptling_ws.ConnectTimeout: too late\n"]
    named = {name for name in _errors.__all__ if name != "Violation"}
    assert {getattr(scriptling_ws, name).__module__ for name in named} == {"scriptling_ws"}


MADE = [
    InvalidURL("bad"),
    InvalidMessage("no JSON", [1, 2]),
    ConnectError("refused"),
    ConnectError("refused", ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
    ConnectTimeout("late"),
    HandshakeError("no", 401, {"a": "b"}, b"body"),
    ProxyError("no way", OSError(errno.EPIPE, "gone"), status=407, headers={"a": "b"}),
    ConnectionClosed(4000, "bye"),
    ConnectionClosed(1006),
    without_close_frame("message", ConnectionResetError(errno.ECONNRESET, "reset")),
    SendTimeout("slow"),
    ReceiveTimeout("silent"),
    RoomError("away"),
    ProtocolError(1002, "bad frame"),
]


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (InvalidURL, [ValueError]),
        (InvalidMessage, [ValueError]),
        (ConnectError, [OSError]),
        (ConnectTimeout, [ConnectError, TimeoutError, OSError]),
        (HandshakeError, [ConnectError, OSError]),
        (ProxyError, [ConnectError, OSError]),
        (ConnectionClosed, [ConnectionError, OSError]),
        (SendTimeout, [TimeoutError, OSError]),
        (ReceiveTimeout, [TimeoutError, OSError]),
        (RoomError, [ConnectionError, OSError]),
        (ProtocolError, []),
    ],
)
def test_each_is_the_built_in_that_a_caller_expects(kind, bases):
    for base in [WebSocketError, *bases]:
        assert issubclass(kind, base)


def test_timeout_closed_and_refused_are_never_the_same():
    distinct = [
        InvalidMessage,
        InvalidURL,
        ConnectTimeout,
        HandshakeError,
        ProxyError,
        ConnectionClosed,
        SendTimeout,
        ReceiveTimeout,
        RoomError,
    ]
    for kind in distinct:
        assert [other for other in distinct if issubclass(kind, other)] == [kind]


def test_all_of_them_are_exported():
    public = set(_errors.__all__) - {"Violation"}  # which stays inside
    assert public == set(_errors.__all__) & set(scriptling_ws.__all__)
    for name in public:
        assert getattr(scriptling_ws, name) is getattr(_errors, name)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionClosed(1000), "the connection is closed (code 1000)"),
        (ConnectionClosed(4000, "bye"), "the connection is closed (code 4000, bye)"),
        (ConnectionClosed(1006), "the connection is closed (code 1006, no close frame)"),
        (ConnectionClosed(1006, "bye"), "the connection is closed (code 1006, bye)"),
        (
            without_close_frame("", SendTimeout("slow")),
            "the connection is closed (code 1006, no close frame: slow)",
        ),
        (
            without_close_frame("frame", OSError(errno.ETIMEDOUT, "late")),
            "the connection is closed (code 1006, no close frame, in the middle of a frame: late)",
        ),
        (HandshakeError("no", 401), "no"),
        (ConnectTimeout("late"), "late"),
        (ProtocolError(1002, "bad frame"), "bad frame"),
    ],
)
def test_texts(error, text):
    assert str(error) == text


def test_what_they_carry():
    closed = ConnectionClosed(4000, "bye")
    assert (closed.code, closed.reason) == (4000, "bye")
    assert ConnectionClosed(1006).reason == ""
    refused = HandshakeError("no", 401, {"a": "b"}, b"body")
    assert (refused.status, refused.headers, refused.body) == (401, {"a": "b"}, b"body")
    bare = HandshakeError("garbage")
    assert (bare.status, bare.headers, bare.body) == (None, {}, b"")
    assert ProtocolError(1009, "big").code == 1009


def test_headers_of_two_errors_are_not_shared():
    HandshakeError("a").headers["x"] = "y"
    assert HandshakeError("b").headers == {}


# A process pool, for one, hands exceptions over this way.
@looped("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@looped("error", MADE)
def test_they_survive_copy_and_pickle(error, again):
    other = again(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    if isinstance(error, OSError):
        assert (other.errno, other.strerror) == (error.errno, error.strerror)


@pytest.mark.parametrize(
    "cause",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ssl.SSLError(ssl.SSL_ERROR_SSL, "[SSL] wrong version number"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_connect_error_has_the_number_and_the_text_of_its_cause(cause):
    error = ConnectError("cannot connect to h:80", cause)
    assert (error.errno, error.strerror) == (cause.errno, cause.strerror)
    assert str(error) == "cannot connect to h:80"
    assert error.args == ("cannot connect to h:80",)


@pytest.mark.parametrize("cause", [None, UnicodeError("label too long"), OSError("no number")])
def test_a_connect_error_without_a_system_error_has_no_number(cause):
    error = ConnectError("cannot find 'h'", cause)
    assert (error.errno, error.strerror) == (None, None)
    assert str(error) == "cannot find 'h'"


def test_a_connect_timeout_has_the_number_of_one():
    error = ConnectTimeout("late")
    assert (error.errno, error.strerror) == (errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    assert str(error) == "late"


def test_a_refusal_by_http_has_no_number():
    assert HandshakeError("no", 401).errno is None


@pytest.mark.parametrize("reason", ["a\nERROR root: forged", "\x1b[2J", "\u2028"])
def test_a_peers_reason_cannot_forge_a_line_of_a_log(reason):
    error = ConnectionClosed(4000, reason)
    assert error.reason == reason
    assert str(error) == f"the connection is closed (code 4000, {reason!a})"
