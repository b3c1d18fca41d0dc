"""The control plane: that a kept verdict on a close frame is what wsproto says of each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection as WSProtoConnection

from scriptling_ws._wire import control as _control
from scriptling_ws._wire.control import Control
from scriptling_ws._wire.opcodes import CLOSE

KEY = b"\x01\x02\x03\x04"
PAYLOADS = st.one_of(
    st.just(b""),
    st.binary(max_size=125),
    st.builds(
        lambda code, text: code.to_bytes(2, "big") + text.encode()[:123],
        st.one_of(st.integers(998, 1016), st.integers(0, 0xFFFF)),
        st.one_of(st.just(""), st.text(max_size=40)),
    ),
)


def opened(*, client):
    return Control(client)


def closed(receive, *, client, closing, payload):
    """What a close frame leads to: state, code, reason, error and the answer."""
    control = opened(client=client)
    if closing:
        control.close(3000, "bye")
    reply = receive(control, CLOSE, payload, None if client else KEY)
    if client and reply:  # its key is another one each time
        reply = len(reply)
    error = control.error and str(control.error)
    return control.open, control.done, control.code, control.reason, error, reply


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.booleans(), PAYLOADS)
def test_a_close_frame_leads_to_what_wsproto_says_the_second_time_too(client, closing, payload):
    case = {"client": client, "closing": closing, "payload": payload}
    asked = closed(Control._receive, **case)
    for _ in range(2):
        assert closed(Control.receive, **case) == asked


@pytest.mark.parametrize("closing", [False, True])
def test_wsproto_is_asked_once_about_close_frames_that_are_alike(closing, monkeypatch):
    asked = []

    class Counting(WSProtoConnection):
        def receive_data(self, data):
            asked.append(data)
            super().receive_data(data)

    monkeypatch.setattr(_control, "WSProtoConnection", Counting)
    _control._verdict.cache_clear()
    for _ in range(3):
        control = opened(client=False)
        if closing:
            control.close(1000, "")
        control.receive(CLOSE, b"\x03\xe8", KEY)
        assert control.done
    assert len([data for data in asked if data]) == 1
    _control._verdict.cache_clear()  # what was counted is not for others


@pytest.mark.parametrize("client", [False, True])
def test_wsproto_compresses_nothing(client):
    control = opened(client=client)
    assert control._asked.client == client
    assert control._asked._proto.extensions == []


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9bye"])
def test_a_server_that_is_closed_has_no_wsproto_of_its_own(payload, monkeypatch):
    opened(client=False).receive(CLOSE, payload, KEY)  # which asks for it once
    monkeypatch.setattr(_control, "WSProtoConnection", None)
    control = opened(client=False)
    assert (control.open, control.done) == (True, False)
    assert control.receive(CLOSE, payload, KEY)
    assert (control.open, control.done) == (False, True)


def test_connections_that_closed_alike_stay_closed_apart():
    one, other = opened(client=False), opened(client=False)
    assert one.receive(CLOSE, b"\x03\xe8", KEY) == other.receive(CLOSE, b"\x03\xe8", KEY) != b""
    for control in (one, other):
        assert not control.open
        assert control.ping(b"") == control.close(1001, "") == control.fail(1002, "x") == b""
        control.end()
        assert control.code == 1000
    assert opened(client=False).open
