"""Functions that callers give: one that a call would not run is refused wherever one is taken."""

import base64
import concurrent.futures
import functools
import gc
import re

import pytest

import scriptling.runtime as runtime
import scriptling_ws as ws
from pairs import both_ends
from programs import free_port
from scriptling_ws._functions import check_runs, comes_later
from servers import Answer, dial, head, read_all, serving

once = pytest.mark.once  # but for what has connections


async def later(*_):
    """Never runs here."""


async def each_later(*_):
    yield


def each(*_):
    yield


class Later:
    async def __call__(self, *_):
        """Never runs here."""


LAZY = {
    "async": later,
    "an async generator": each_later,
    "a generator": each,
    "an object": Later(),
    "partial": functools.partial(later, 1),
}

LATER = {
    "a coroutine": later,
    "an async generator": each_later,
    "a generator": each,
    "a future": lambda *_: concurrent.futures.Future(),
}

TAKEN = {
    "basic_auth": ws.basic_auth,
    "bearer_auth": ws.bearer_auth,
    "final": lambda function: ws.reconnecting("ws://localhost/", final=function),
    "on_gap": lambda function: ws.room("a", backend="redis://localhost", on_gap=function),
    "ready": lambda function: ws.serve(lambda client: None, port=0, ready=function),
    "loads": lambda function: ws.pair(loads=function),
    "dumps": lambda function: ws.connect("ws://localhost/", dumps=function),
    "handler": lambda function: ws.Server(function, port=0),
    "authorize": lambda function: ws.Routes().get("/", str, authorize=function),
}


@once
@pytest.mark.parametrize("function", LAZY.values(), ids=LAZY)
@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_what_would_not_run_is_refused(take, function):
    with pytest.raises(TypeError, match=r"is asynchronous and would never|has a 'yield' in it"):
        take(function)


@pytest.mark.parametrize("function", LAZY.values(), ids=LAZY)
def test_what_would_not_run_is_refused_by_a_connection(function):
    with both_ends() as (client, server):
        for take in (
            client.on_close,
            lambda function: client.send_stream([b"a"], progress=function),
            lambda function: server.receive_stream(progress=function),
        ):
            with pytest.raises(TypeError, match=r"would never run here|has a 'yield' in it"):
                take(function)
        client.send("nothing was sent before")
        assert server.receive(10) == "nothing was sent before"


@once
def test_what_runs_is_taken():
    for function in (None, len, print, str, LAZY.get, lambda: later(), functools.partial(print, 1)):
        check_runs(function, "it")


@once
@pytest.mark.filterwarnings("error")
def test_a_result_that_is_no_answer_yet():
    for function in LATER.values():
        assert comes_later(function())
    gc.collect()  # where Python would warn that a coroutine was not awaited
    for result in (None, True, "ann", [], iter(()), later):
        assert not comes_later(result)


NO_ANSWERS = {**LATER, "a response": lambda *_: runtime.http.text(403, "no")}
CHECKS = {
    "basic_auth": (lambda call: ws.basic_auth(lambda *given: call(*given)), "Basic", b"ann:guess"),
    "bearer_auth": (lambda call: ws.bearer_auth(lambda *given: call(*given)), "Bearer", None),
}


@once
@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("call", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_a_check_without_an_answer_lets_nobody_in(log, name, call):
    """As where a function calls an asynchronous one, and forgets to await: the result is true.

    Or where it refuses as a function for authorize= does, by a response.
    """
    make, scheme, given = CHECKS[name]
    token = "guess" if given is None else base64.b64encode(given).decode()
    routes = ws.Routes()
    routes.get("/page", lambda request: "secret", authorize=make(call))
    with serving(routes=routes) as server, dial(server) as sock:
        sock.sendall(head("/page", f"Authorization: {scheme} {token}", "Connection: close"))
        answer = Answer(read_all(sock))
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert re.search("no answer yet|returned a response", str(log.wait_for("failed").exc_info[1]))


@pytest.mark.parametrize("call", LATER.values(), ids=LATER)
def test_a_handler_that_has_not_run_has_failed(log, call):
    """As one behind a decorator, which hides that it is asynchronous."""
    with serving(lambda client: call(client)) as server, ws.connect(server.url) as conn:
        assert conn.receive(10) is None
        assert conn.close_code == 1011
    assert "the handler returned a " in str(log.wait_for("the handler of '/' failed").exc_info[1])


@once
@pytest.mark.parametrize("call", LATER.values(), ids=LATER)
def test_a_failure_is_not_final_by_what_is_no_answer_yet(call):
    with pytest.raises(TypeError, match="no answer yet"):
        next(iter(ws.reconnecting(f"ws://127.0.0.1:{free_port()}/", final=lambda _: call())))
