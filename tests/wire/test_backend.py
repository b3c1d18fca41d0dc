"""What compresses: zlib or zlib-ng, with which a peer sees no difference but sizes."""

import sys
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs import SOON, both_ends
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._wire import backend, deflate
from scriptling_ws._wire.deflate import Compressor, Decompressor

TEXT = "".join(f'{{"id":{number},"name":"a name of {number % 7}"}}' for number in range(2000))


def zlib_ng():
    reason = "zlib-ng is not installed: pip install --group test"
    return pytest.importorskip("zlib_ng.zlib_ng", reason=reason)


@pytest.fixture(params=["zlib", "zlib-ng"])
def module(request):
    """Each of the two, in use."""
    module = zlib if request.param == "zlib" else zlib_ng()
    before = backend.chosen()
    backend.use(module)
    yield module
    backend.use(before)


@pytest.fixture
def anew():
    """Nothing has been chosen."""
    before = backend.chosen()
    backend.use(None)
    yield
    backend.use(before)


@pytest.mark.parametrize("takeover", [False, True])
def test_what_is_compressed_is_what_zlib_inflates(module, takeover):
    @settings(max_examples=40, deadline=None)
    @given(
        messages=st.lists(st.binary(max_size=300) | st.sampled_from([b"again" * 99]), max_size=5),
        bits=st.integers(9, 15),
        level=st.integers(1, 9),
    )
    def check(messages, bits, level):
        compressor = Compressor(bits, takeover, level)
        inflater = Decompressor(bits, takeover, 10_000)
        for message in messages:
            (payload,) = compressor.compress([message])
            compressor.sent()
            inflater.feed(payload)
            assert bytes(memoryview(inflater.finish())[: inflater.size]) == message
            inflater.forget()

    check()


@pytest.mark.parametrize("level", [1, 6, 9])
@pytest.mark.parametrize("bits", [9, 15])
def test_messages_and_streams_arrive_at_any_level(module, level, bits):
    terms = Terms(client_max_window_bits=bits, server_max_window_bits=bits)
    with both_ends(deflate=terms, compression_level=level) as (client, server):
        for near, far in ((client, server), (server, client)):
            for _ in range(2):  # the second refers to the first
                near.send(TEXT)
                assert far.receive(SOON) == TEXT
                near.send_stream([TEXT], text=True, fragment_size=5000)
                assert far.receive(SOON) == TEXT
            assert far._link.protocol.inflated == 4 * len(TEXT)


def test_a_level_makes_a_difference(module):
    sizes = [len(Compressor(15, False, level).compress([TEXT.encode()])[0]) for level in (1, 6, 9)]
    assert len(set(sizes)) == 3
    assert sizes[0] > sizes[2]
    default = Compressor(15, False).compress([TEXT.encode()])[0]
    assert len(default) == sizes[1]


@pytest.mark.usefixtures("anew")
def test_zlib_ng_is_chosen_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert backend.chosen() is zlib_ng()


@pytest.mark.usefixtures("anew")
def test_zlib_is_chosen_where_it_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "zlib_ng", None)
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    assert backend.chosen() is zlib


@pytest.mark.usefixtures("anew")
def test_zlib_is_chosen_without_a_gil(monkeypatch):
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert backend.chosen() is zlib


def test_zlib_alone_inflates(module):
    assert deflate.zlib is zlib
    inflater = Decompressor(15, True, 1000)
    inflater.feed(memoryview(Compressor(15, True).compress([b"x" * 900])[0]))
    assert type(inflater._stream) is type(zlib.decompressobj())
