"""`loads=` and `dumps=`: the functions by which `send` writes JSON, and `receive_json` reads it."""

import functools
import gc
import json
import threading
import weakref

import pytest

import scriptling_ws as ws
from frames import BINARY, TEXT, frame
from looped import looped
from pairs import SOON, both_ends, raw_peer, receive_frame, roles, running, until
from scriptling_ws._handshakes.terms import Terms
from servers import serving

DOCUMENT = {"name": "Zoë", "price": 1.25, "tags": ["a", "b"], "none": None}
WHOLE_TEXT = 0x80 | TEXT


def libraries():
    """Readers and writers; one that is not installed, as there is no wheel, is skipped by name."""
    yield pytest.param((json.loads, json.dumps), id="json")
    yield pytest.param((json.loads, lambda value: json.dumps(value).encode()), id="json-bytes")
    for name in ("orjson", "msgspec"):
        yield pytest.param(name, id=name)


@pytest.fixture(params=libraries())
def library(request):
    if not isinstance(request.param, str):
        return request.param
    module = pytest.importorskip(request.param)
    return (
        (module.loads, module.dumps)
        if request.param == "orjson"
        else (module.json.decode, module.json.encode)
    )


@pytest.mark.parametrize("text_type", [str, bytes])
@pytest.mark.parametrize("deflate", [None, Terms()], ids=["plain", "deflate"])
def test_a_library_reads_and_writes(library, text_type, deflate):
    loads, dumps = library
    options = {"text_type": text_type, "loads": loads, "dumps": dumps, "deflate": deflate}
    with both_ends(**options, compression_threshold=0) as (near, far):
        near.send(DOCUMENT)
        assert far.receive_json(SOON) == DOCUMENT
        near.send_many([DOCUMENT, "[1]", {"a": 1}])
        assert [far.receive_json(SOON) for _ in range(3)] == [DOCUMENT, [1], {"a": 1}]
        near.send(DOCUMENT, timeout=SOON)
        near.send(DOCUMENT, compress=False)
        assert far.receive_json(SOON) == far.receive_json(SOON) == DOCUMENT
        near.send_binary(json.dumps(DOCUMENT).encode())  # which is a list there
        assert far.receive_json(SOON) == DOCUMENT
        large = {"text": "€" * 200_000}
        with running(lambda: near.send(large)):
            assert far.receive_json(SOON) == large


def test_what_a_reader_is_given():
    cases = [
        ({}, "'é'", "b'\\xc3\\xa9'"),
        ({"binary_type": bytes}, "'é'", "b'\\xc3\\xa9'"),
        ({"text_type": bytes}, "b'\\xc3\\xa9'", "b'\\xc3\\xa9'"),
    ]
    for options, text, binary in cases:
        with both_ends(loads=repr, **options) as (near, far):
            near.send("é")
            near.send_binary("é".encode())
            assert far.receive_json(SOON) == text
            assert far.receive_json(SOON) == binary
            near.send("1")
            assert far.receive_json(SOON, loads=int) == 1  # of this call


class Document(dict):
    """A dict of the caller's own."""


@roles
@pytest.mark.parametrize("made", ["text é", "text é".encode()], ids=["str", "bytes"])
@pytest.mark.parametrize("kind", [dict, Document])
def test_what_a_writer_makes_is_sent_as_text(client, made, kind):
    given = []

    def dumps(value):
        given.append(value)
        return made

    with raw_peer(client=client, dumps=dumps) as (conn, peer):
        conn.send(kind(a=1))
        conn.send("no dict")
        conn.send_many([kind(a=2)])
        assert receive_frame(peer) == (WHOLE_TEXT, "text é".encode())
        assert receive_frame(peer) == (WHOLE_TEXT, b"no dict")
        assert receive_frame(peer) == (WHOLE_TEXT, "text é".encode())
    assert given == [{"a": 1}, {"a": 2}]
    assert all(type(value) is kind for value in given)


class Odd(Exception):
    """Another one than the usual."""


def raising(error):
    def dumps(value):
        raise error

    return dumps


@looped(
    ("dumps", "error", "words"),
    [
        (lambda value: value, TypeError, "dumps has to return str or bytes, not dict"),
        (lambda value: None, TypeError, "dumps has to return str or bytes, not NoneType"),
        (lambda value: bytearray(b"x"), TypeError, "str or bytes, not bytearray"),
        (lambda value: b"ok\xff", ValueError, "not UTF-8: see byte 2 of 3"),
        (lambda value: "\ud800", ValueError, "lone surrogate"),
        (raising(ValueError("odd")), ValueError, "the dict cannot be sent as JSON: odd"),
        (raising(TypeError("odd")), TypeError, "the dict cannot be sent as JSON: odd"),
        (raising(RecursionError()), ValueError, "nested too deeply"),
        (raising(Odd("odd")), Odd, "odd"),
    ],
)
@looped("deflate", [None, Terms()])
def test_what_a_writer_does_wrong_is_raised_before_anything_is_sent(dumps, error, words, deflate):
    with both_ends(dumps=dumps, deflate=deflate, compression_threshold=0) as (near, far):
        for more in ({}, {"timeout": SOON}, {"compress": False}):
            with pytest.raises(error, match=words) as caught:
                near.send({"a": 1}, **more)
            assert type(caught.value) is error
        with pytest.raises(error, match=words):
            near.send_many([{"a": 1}])
        near.send("next")
        assert far.receive(SOON) == "next"


def test_the_error_of_a_writer_is_the_cause():
    with both_ends(dumps=raising(cause := TypeError("odd"))) as (near, _):
        with pytest.raises(TypeError) as caught:
            near.send({})
        assert caught.value.__cause__ is cause


@pytest.mark.parametrize("options", [{}, {"text_type": bytes}], ids=["str", "bytes"])
def test_what_a_reader_cannot_read_is_in_the_error(options):
    with raw_peer(**options) as (conn, peer):
        peer.sendall(frame(TEXT, b"{") + frame(BINARY, b"\xff") + frame(TEXT, b"1"))
        with pytest.raises(ws.InvalidMessage, match="cannot be read as JSON: Expecting") as caught:
            conn.receive_json(SOON)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value.__cause__, json.JSONDecodeError)
        assert caught.value.message == (b"{" if options else "{")
        with pytest.raises(ws.InvalidMessage) as caught:
            conn.receive_json(SOON)
        assert isinstance(caught.value.__cause__, UnicodeDecodeError)
        assert caught.value.message == [255]
        assert conn.receive_json(SOON) == 1


def test_an_error_text_is_in_one_line():
    def loads(text):
        raise Odd(text)

    with both_ends(loads=loads) as (near, far):
        near.send("two\nlines\x1b[2J")
        with pytest.raises(ws.InvalidMessage) as caught:
            far.receive_json(SOON)
        assert str(caught.value).isprintable()
        assert r"two\nlines" in str(caught.value)
        assert type(caught.value.__cause__) is Odd


def test_a_deeply_nested_message_is_invalid():
    with both_ends() as (near, far):
        near.send("[" * 200_000)
        with pytest.raises(ws.InvalidMessage) as caught:
            far.receive_json(SOON)
        assert type(caught.value.__cause__) in (RecursionError, json.JSONDecodeError)


@pytest.mark.parametrize("error", [MemoryError(), TimeoutError("a signal handler's")])
def test_what_is_no_fault_of_the_message_is_raised_as_it_is(error):
    with both_ends(loads=raising(error)) as (near, far):
        near.send("1")
        with pytest.raises(type(error)) as caught:
            far.receive_json(SOON)
        assert caught.value is error


def test_a_model_of_msgspec():
    msgspec = pytest.importorskip("msgspec")
    order = msgspec.defstruct("Order", [("side", str), ("price", float)])
    options = {"loads": msgspec.json.Decoder(order).decode, "dumps": msgspec.json.encode}
    with both_ends(text_type=bytes, **options) as (near, far):
        near.send({"side": "buy", "price": 1.5})
        assert far.receive_json(SOON) == order("buy", 1.5)
        near.send_text(msgspec.json.encode(order("sell", 2)))
        assert far.receive_json(SOON) == order("sell", 2)
        near.send({"side": "buy", "price": "much"})
        with pytest.raises(ws.InvalidMessage, match="Expected `float`, got `str`"):
            far.receive_json(SOON)


@pytest.mark.parametrize("name", ["loads", "dumps"])
def test_a_function_has_to_be_one(name):
    with pytest.raises(TypeError, match=f"{name} has to be a function, not str"):
        ws.pair(**{name: "json"})


def test_connect_and_a_route_have_them():
    def handle(client):
        client.send({"got": client.receive_json(SOON), "as": type(client.recv(SOON)).__name__})

    dumps = functools.partial(json.dumps, separators=(", ", " = "))
    with (
        serving(handle, text_type=bytes, loads=len, dumps=dumps) as server,
        ws.connect(server.url, text_type=bytes, loads=bytes.decode, dumps=raising(Odd())) as conn,
    ):
        conn.send("é")
        conn.send("é")
        assert conn.receive_json(SOON) == '{"got" = 2, "as" = "bytes"}'
        with pytest.raises(Odd):
            conn.send({})


def test_reconnecting_has_them():
    def handle(client):
        client.send(client.recv(SOON))

    with serving(handle) as server:
        options = {"text_type": bytes, "loads": bytes.decode, "dumps": lambda value: b"made"}
        for conn in ws.reconnecting(server.url, first_delay=0, **options):
            conn.send({})
            assert conn.receive_json(SOON) == "made"
            break


def test_what_a_function_refers_to_is_let_go_of_with_the_connection():
    class Program:
        def loads(self, text):
            return text

    def echo(client):
        client.send(client.recv(SOON))

    program = Program()
    gone = weakref.ref(program)
    with serving(echo) as server:
        with ws.connect(server.url, loads=program.loads) as conn:
            conn.send("x")
            assert conn.receive_json(SOON) == "x"
        del conn, program
        until(lambda: (gc.collect(), gone())[1] is None)  # keepalive may just be looking


def test_any_number_of_threads_may_write():
    """Each document arrives whole."""

    def dumps(value):
        return json.dumps(value).encode()

    with both_ends(dumps=dumps, loads=json.loads, text_type=bytes) as (near, far):
        threads = [
            threading.Thread(target=lambda at=at: [near.send({"at": at}) for _ in range(50)])
            for at in range(4)
        ]
        for thread in threads:
            thread.start()
        came = [far.receive_json(SOON)["at"] for _ in range(200)]
        for thread in threads:
            thread.join()
    assert sorted(came) == sorted([0, 1, 2, 3] * 50)
