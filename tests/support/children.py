"""Forked children that call a function, and say what it comes to."""

import contextlib
import json
import os
import signal
import warnings

from scriptling_ws._network.waiting import engine


def end_pool():
    """Where gevent is the engine: end the threads of its pool.

    They keep an eventfd each a while; and a child that gevent has forked waits for them,
    though it has none.
    """
    if engine().name == "gevent":
        import gevent

        hub = gevent.get_hub()
        if (pool := hub._threadpool) is not None:
            del hub.threadpool  # the next call makes another
            pool.kill()


def forked():
    """Fork: the child's process, 0 in the child, which ends in ten seconds at the latest."""
    end_pool()
    with warnings.catch_warnings():
        # CPython 3.12 warns of a fork beside threads, which is the very point here.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if not process:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
    return process


class Child:
    """A forked child that calls a function; it ends there, whatever happens."""

    def __init__(self, function):
        read, write = os.pipe()
        self._process = forked()
        if not self._process:
            status = 1
            try:
                outcome = outcome_of(function)
                os.write(write, json.dumps(outcome).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        self._read = read

    def result(self):
        """What the function returned or raised in the child."""
        with open(self._read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self._process, 0)
        assert status == 0, f"the child ended with {status}"
        return json.loads(said)


@contextlib.contextmanager
def living_child(function=lambda: None):
    """A child that calls a function, and then lives until the block is over."""
    ready, stay = os.pipe(), os.pipe()

    def live():
        function()
        os.close(stay[1])
        os.write(ready[1], b"x")
        os.read(stay[0], 1)

    child = Child(live)
    try:
        assert os.read(ready[0], 1) == b"x"
        yield
    finally:
        for descriptor in (*ready, *stay):
            os.close(descriptor)
        assert child.result() is None


def outcome_of(function):
    """What a call returns, or the exception that it raises as text."""
    try:
        return function()
    except BaseException as error:
        return repr(error)


def in_child(function):
    """What a call in a forked child returns or raises."""
    return Child(function).result()
