"""The engine of gevent, in programs that gevent has not patched: everything is the package's own.

Each is a program of its own, as the engine is chosen for good; a greenlet ticks in all of them, to
show that nothing stops the others. (Programs that gevent has patched are in test_gevent.py.)
"""

import sys

import pytest

from scriptling_ws import _kernel as kernel
from ticking import run_program

pytest.importorskip("gevent")

once = pytest.mark.once("how long a wait may be is the same with both codecs")


def gil():
    """Whether the interpreter has a GIL."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


OWN = """
import os
os.environ["SCRIPTLING_WS_ENGINE"] = "gevent"
import logging, math, re
import gevent
from gevent import event, pool
from scriptling_ws._network import waiting
from scriptling_ws._network.greenlets import Parking

def until(condition):
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.001)
"""


def run(body, *arguments):
    run_program(OWN, body, *arguments)


def test_many_connections_talk_at_a_time(certificates):
    run(
        """
        def talk(number):
            with open(server, binary_type=bytes, compression="deflate") as conn:
                for turn in range(10):
                    text = f"{number} says {turn} " * random.choice((1, 1, 1, 300))
                    conn.send(text)
                    assert conn.receive(10) == text
                    conn.send_binary(text.encode() * 20)
                    assert conn.receive(10) == text.encode() * 20
            assert conn.close_code == 1000
            return number
        with serve(echo, compression="deflate", binary_type=bytes) as server:
            done = pool.Group().map(talk, range(25))
            assert done == list(range(25))
            until(lambda: not server.connections)
        """,
        *certificates,
    )


def test_timeouts(certificates):
    run(
        """
        with serve(echo) as server, open(server) as conn:
            for _ in range(3):
                conn.send("a")  # a long wait, whose timer stays
                assert conn.receive(30) == "a"
                assert took(0.05, SOON, conn.receive, 0.05) is None
                assert took(0.2, SOON, conn.receive, 0.2) is None
                assert took(0, SOON, conn.receive, 0) is None
                assert took(1.1, SOON, conn.receive, 1.1) is None
                assert took(0, SOON, conn.ping, 5) is not None
            conn.send_binary(bytes(3_000_000))
            assert len(took(0, 9, conn.receive, None)) == 3_000_000
            assert took(0.1, SOON, conn.receive, 0.1) is None
        """,
        *certificates,
    )


def test_a_message_comes_though_the_timer_was_set_before():
    run(
        """
        def late(client):
            client.receive()
            gevent.sleep(0.3)
            client.send("late")
            client.receive()
        with serve(late) as server, open(server) as conn:
            assert took(0.1, SOON, conn.receive, 0.1) is None
            conn.send("go on")
            assert took(0.2, SOON, conn.receive, 30) == "late"
        """
    )


def test_close_wakes_who_receives(certificates):
    run(
        """
        with serve(echo) as server:
            for timeout in (None, 30, 9):
                for thread in (False, True):
                    conn = open(server)
                    waiting_one = gevent.spawn(conn.receive, timeout)
                    until(lambda: conn._link.transport.parking.task is not None)
                    if thread:
                        gevent.get_hub().threadpool.apply(conn.close)
                    else:
                        took(0, SOON, conn.close)
                    assert took(0, SOON, waiting_one.get) is None
                    assert conn.close_code == 1000
        """,
        *certificates,
    )


def test_what_comes_while_nobody_waits_does_not_keep_the_loop_busy():
    run(
        """
        sent = event.Event()
        def two(client):
            client.send("one")
            client.receive()
            client.send("two")
            sent.set()
            client.receive()
        with serve(two) as server, open(server) as conn:
            assert conn.receive() == "one"
            conn.send("more")
            sent.wait()
            before = time.process_time()
            gevent.sleep(0.5)
            assert time.process_time() - before < 0.3
            assert not conn._link.transport.parking.watching
            assert conn.receive() == "two"
        """
    )


@pytest.mark.skipif(sys.gettrace() is not None, reason="traced, a turn takes a second")
@pytest.mark.parametrize(
    "timeout", [0, *(pytest.param(each, marks=once) for each in (30, None))], ids=str
)
def test_a_flood_lets_the_others_run(timeout):
    run(
        f"""
        def flood(client):
            while client.connected():
                client.send_many(["x"] * 1000)
        with serve(flood) as server, open(server) as conn:
            count, before = 0, ticks
            while ticks - before < 20 or count < 1000:
                count += conn.receive({timeout}) is not None
        """
    )


def test_text_that_is_encoded_is_sent():
    run(
        """
        with serve(echo) as server, open(server) as conn:
            for data in (b"bytes", bytearray(b"more")):
                conn.send_text(data)
                assert conn.receive(10) == data.decode()
        """
    )


def test_a_callback_of_the_loop_may_not_wait():
    run(
        """
        from gevent.exceptions import BlockingSwitchOutError
        with serve(echo) as server, open(server) as conn:
            failed = event.AsyncResult()
            def wait():
                try:
                    failed.set(conn.receive(10))
                except BaseException as error:
                    failed.set(error)
            gevent.get_hub().loop.run_callback(wait)
            assert isinstance(failed.get(timeout=20), BlockingSwitchOutError), failed.value
            conn.send("still there")
            assert conn.receive(10) == "still there"
        """
    )


@pytest.mark.skipif(
    kernel.IMPLEMENTATION == "pure", reason="the pure kernel keeps a window for each"
)
def test_connections_that_wait_lend_their_windows():
    run(
        """
        import tracemalloc
        def windows():
            traces = tracemalloc.take_snapshot().traces
            return sum(trace.size == 1025 for trace in traces)
        with serve(echo) as server:
            tracemalloc.start()
            conns = [open(server) for _ in range(150)]
            for conn in conns:
                conn.send("a")
                assert conn.receive(10) == "a"
            waiting_ = [gevent.spawn(conn.receive, 60) for conn in conns]
            with gevent.Timeout(20):
                while windows() > 64 + 5:
                    gevent.sleep(0.1)
            tracemalloc.stop()
            for turn in range(3):
                size = (3, 3000, 300_000)[turn]
                for number, conn in enumerate(conns):
                    conn.send(str(number) * size)
                for number, each in enumerate(waiting_):
                    assert each.get(timeout=20) == str(number) * size
                waiting_ = [gevent.spawn(conn.receive, 60) for conn in conns]
                gevent.sleep(0)
            gevent.killall(waiting_)
            for conn in conns:  # after an exception in the wait
                conn.send("b")
                assert conn.receive(10) == "b"
                conn.close()
        """
    )


def test_a_large_buffer_of_ciphertext_is_given_back_in_a_long_wait(certificates):
    run(
        """
        with serve(echo) as server, open(server) as conn:
            session = getattr(conn._link.transport, "session", None)
            if session is not None:
                least = len(session.cipher)
                conn.send_binary(bytes(3_000_000))
                assert len(conn.receive(10)) == 3_000_000
                assert len(session.cipher) > least
                conn.send("short, so that the wait begins in the kernel")
                assert conn.receive(10).startswith("short")
                waiting_one = gevent.spawn(conn.receive, 60)
                until(lambda: len(session.cipher) == least)
                conn.send("still there")
                assert waiting_one.get(timeout=10) == "still there"
        """,
        *certificates,
    )


def test_one_that_was_woken_does_not_wait():
    run(
        """
        near, far = socket.socketpair()
        for wakeable in (False, True):
            place = Parking(near.fileno())
            place.wake()
            end = time.monotonic() + 0.05
            late = took(0 if wakeable else 0.04, SOON, place.park, end, wakeable)
            assert late is not wakeable
            place.close()
        near.close()
        far.close()
        """
    )


def test_what_ends_a_wait_loses_nothing():
    run(
        """
        def count(client):
            for number in range(10**9):
                if client.receive(0) is not None or not client.connected():
                    return
                client.send(str(number))
                gevent.sleep(0.001)
        with serve(count) as server, open(server) as conn:
            got, strikes = [], 0
            while len(got) < 300:
                try:
                    with gevent.Timeout(random.random() * 0.01):
                        while True:
                            got.append(conn.receive(random.choice((None, 30, 0.5))))
                except gevent.Timeout:
                    strikes += 1
            assert strikes > 20
            assert got == [str(number) for number in range(len(got))]

            for _ in range(50):
                receiving = gevent.spawn(conn.receive, None)
                gevent.sleep(random.choice((0, 0.0005, 0.002)))
                receiving.kill()
                if receiving.successful() and isinstance(receiving.value, str):
                    got.append(receiving.value)
            got.append(conn.receive(10))
            assert got == [str(number) for number in range(len(got))]
        """
    )


@pytest.mark.skipif(kernel.on_kept_stack is None, reason="the compiled kernel's")
def test_tasks_with_the_memory_of_those_before_keep_their_frames_apart():
    run(
        """
        import sys
        class Body:
            def __init__(self, number): self.number, self.result = number, None
            def deep(self, left):
                mine = [self.number] * 3
                if left % 7 == 0: gevent.sleep(random.choice((0, 0, 0.0001)))
                below = self.deep(left - 1) if left else 0
                assert mine == [self.number] * 3
                return below + self.number
            def run(self):
                depth = random.choice((0, 3, 30, 400))  # what is deep gets further memory
                self.result = self.deep(depth), self.number * (depth + 1)
                if self.number % 5 == 0: raise ValueError(self.number)
            def forever(self): self.deep(3); gevent.sleep(60)
        gevent.get_hub().exception_stream = None
        spawn = waiting.engine().spawn
        for turn in range(20):
            bodies = [Body(turn * 100 + number) for number in range(70)]
            tasks = [spawn(body.run, "") for body in bodies]
            stopped = [spawn(Body(number).forever, "") for number in range(10)]
            gevent.sleep(0.001)
            gevent.killall(stopped)
            gevent.joinall(tasks)
            for body in bodies:
                assert body.result[0] == body.result[1], body.number
        """
    )


@pytest.mark.skipif(
    kernel.on_kept_stack is None or not sys.version_info < (3, 15) or not gil(),
    reason="nothing is kept",
)
def test_tasks_get_the_memory_of_those_before():
    run(
        """
        import resource
        class Body:
            def run(self): pass
        def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        spawn = waiting.engine().spawn
        for _ in range(100): spawn(Body().run, "").join()
        before = faults()
        for _ in range(2000): spawn(Body().run, "").join()
        assert faults() - before < 1000  # else each has one at least
        """
    )


def test_locks_pass_from_greenlet_to_greenlet():
    run(
        """
        lock, total, taken = waiting.engine().lock(), 0, []
        def add(mine):
            global total
            for turn in range(200):
                if mine % 2 or not lock.acquire(True, 0.0001 * mine):
                    assert lock.acquire()
                before = total
                assert not lock.acquire(False)
                gevent.sleep(random.choice((0, 0, 0.0001)))
                total = before + 1
                lock.release()
        took(0, 20, gevent.joinall, [gevent.spawn(add, n) for n in range(6)], 20, True)
        assert total == 1200 and not lock.locked()
        assert lock.acquire()
        assert took(0.05, SOON, lock.acquire, True, 0.05) is False
        gevent.spawn_later(0.05, lock.release)
        assert took(0.04, SOON, lock.acquire, True, -1) is True

        both = waiting.engine().rlock()
        assert both.acquire() and both.acquire(True, -1)
        other = gevent.spawn(both.acquire, True, 0.05)
        assert took(0.05, SOON, other.get) is False
        """
    )


def test_a_lock_that_nobody_has_taken_cannot_be_released():
    run(
        """
        for lock in (waiting.engine().lock(), waiting.engine().rlock()):
            for turn in range(2):
                try:
                    lock.release()
                except RuntimeError:  # as of threads' locks
                    pass
                else:
                    raise AssertionError
                assert lock.acquire(False)
                lock.release()
        """
    )


def test_what_blocks_goes_to_other_threads():
    run(
        """
        engine = waiting.engine()
        assert took(0.2, SOON, engine.blocking, lambda: (time.sleep(0.2), 7)[1]) == 7
        try:
            engine.blocking(lambda: 1 // 0)
        except ZeroDivisionError:
            pass
        else:
            raise AssertionError
        assert took(0.2, SOON, engine.in_worker, lambda: (time.sleep(0.2), 8)[1], 5, "x") == 8
        over = threading.Event()
        assert took(0.1, SOON, engine.in_worker, lambda: over.wait(30), 0.1, "x") is None
        over.set()
        # By a name, which is looked up on such a thread.
        with ws.Server(echo, host="localhost", port=0) as server:
            with ws.connect(f"ws://localhost:{server.port}", timeout=10) as conn:
                conn.send("by name")
                assert conn.receive(10) == "by name"
        """
    )


def test_the_log_tells_of_a_handler_that_holds_up_the_others():
    run(
        """
        told = []
        class Log(logging.Handler):
            def emit(self, record):
                found = re.match("nothing else could run for ([0-9.]+) s", record.getMessage())
                if found:
                    told.append(float(found[1]))
        logger = logging.getLogger("scriptling_ws.server")
        logger.setLevel(logging.DEBUG)  # which has all of them, not one in ten seconds
        logger.addHandler(Log())
        def busy(client):
            client.receive()
            time.sleep(0.4)
            client.send("done")
            client.receive()
        with serve(busy) as server, open(server) as conn:
            gevent.sleep(0.1)  # what has held them up so far is told by then
            told.clear()
            late, end = 0, time.monotonic() + 0.2
            while (now := time.monotonic()) < end:
                gevent.sleep(0.005)
                late += time.monotonic() - now - 0.005
            assert not told or late > 0.05  # a machine that is busy holds them up too
            conn.send("hold them up")
            assert conn.receive() == "done"
            until(lambda: any(seconds > 0.3 for seconds in told))
        """
    )


def test_a_server_ends_within_its_time():
    run(
        """
        def stubborn(client):
            gevent.sleep(30)
        for handler, least, most in ((echo, 0, 2), (stubborn, 0.3, 6)):
            server = serve(handler, shutdown_timeout=0.3)
            conns = [open(server) for _ in range(20)]
            receiving = [gevent.spawn(conn.receive, None) for conn in conns]
            until(lambda: len(server.connections) == 20)
            took(least, most, server.close)
            for conn, task in zip(conns, receiving):
                assert task.get(timeout=10) is None
                assert conn.close_code == 1001, conn.close_code
        """
    )


def test_from_threads_of_their_own():
    """Each thread has a loop of its own, and a connection may be used in one after the other."""
    run(
        """
        def talk(number):
            with open(server) as conn:
                conn.send(f"from {number}")
                assert conn.receive(10) == f"from {number}"
                return True
        def one_after_the_other(number):
            shared.send(str(number))
            return shared.receive(10)
        with serve(echo) as server, open(server) as shared:
            apply = gevent.get_hub().threadpool.apply
            tasks = [gevent.spawn(apply, talk, (number,)) for number in range(5)]
            gevent.joinall(tasks, 20, True)
            assert all(task.value for task in tasks)
            for number in range(6):
                if number % 2:
                    assert one_after_the_other(number) == str(number)
                else:
                    assert apply(one_after_the_other, (number,)) == str(number)
        """
    )


def test_the_engine_is_chosen_once():
    run(
        """
        assert waiting.engine().name == "gevent"
        with ws.Server(echo, port=0, engine="gevent"):
            pass
        for name, error, text in (
            ("threads", RuntimeError, "choose the engine before the first"),
            ("asyncio", ValueError, "'threads' or 'gevent'"),
            (7, TypeError, "str"),
        ):
            try:
                ws.Server(echo, port=0, engine=name)
            except error as caught:
                assert text in str(caught), caught
            else:
                raise AssertionError(name)
        """
    )


def test_a_forked_child_has_none_of_the_connections():
    run(
        """
        with serve(echo) as server, open(server) as conn:
            conn.send("before")
            assert conn.receive(10) == "before"
            child = os.fork()
            if not child:
                os._exit(not (conn.connected() is False and not server.connections))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            conn.send("after")
            assert conn.receive(10) == "after"
        """
    )
