"""What greenlets share: a loop, which is each one's in turn, and which one thread alone may touch.

Each is a program of its own, as in test_greenlets.
"""

import pytest
from test_greenlets import run

pytest.importorskip("gevent")

# Sends until a Timeout strikes, which it does in a rest: there is room for all of it.
SEND = """
got, done = [], event.Event()
def keep(client):
    for message in client:
        got.append(message if isinstance(message, str) else message.decode())
    done.set()

def send_until_struck(conn, sent):
    try:
        with gevent.Timeout(1e-6):
            while True:
                text = f"{len(sent)} {padding}"
                ways[len(sent) % len(ways)](conn, text)
                sent.append(text)
    except gevent.Timeout:
        pass

def check(**options):
    got.clear()
    done.clear()
    with serve(keep, binary_type=bytes, **options) as server:
        with open(server, **options) as conn:
            sent = []
            for _ in range(30):
                before = len(sent)
                send_until_struck(conn, sent)
                assert len(sent) > before
        done.wait()
        assert got == sent, (len(got), len(sent))
"""


def test_a_timeout_that_strikes_in_a_send_comes_before_the_message(certificates):
    run(
        SEND
        + """
ways = [
    lambda conn, text: conn.send(text),
    lambda conn, text: conn.send_binary(text.encode()),
    lambda conn, text: conn.send_binary(bytearray(text.encode())),
    lambda conn, text: conn.send_binary(list(text.encode())),
    lambda conn, text: conn.send_many([text]),
    lambda conn, text: conn.send(text, timeout=5),
]
padding = ""
check()
ways, padding = [lambda conn, text: conn.send(text)], "x" * 2000
check(compression="deflate")
""",
        *certificates,
    )


def test_what_is_sent_may_be_changed_while_its_sender_rests():
    """By the others, who run then: what is sent is what it has become, or what it was."""
    run(
        """
        data, count = [[1] * 4000, bytearray(b"1" * 4000)], 0
        def change():
            while True:
                gevent.sleep(0)
                for each in data:
                    del each[2:]
                gevent.sleep(0)
                for number, each in enumerate(data):
                    each.extend([1] * 3998 if number == 0 else b"1" * 3998)
        def take(client):
            for message in client:
                assert len(message) in (2, 4000), len(message)
        with serve(take, binary_type=bytes) as server, open(server) as conn:
            changing = gevent.spawn(change)
            before = ticks
            while ticks - before < 20:
                for each in data:
                    conn.send_binary(each)
            changing.kill()
        assert conn.close_code == 1000, conn.close_code
        """
    )


def test_a_task_that_only_broadcasts_lets_the_others_run():
    run(
        """
        told = []
        def listen(client):
            room.join(client)
            client.receive(None)
        def count(conn):
            for message in conn:
                told.append(message)
        room = ws.room("all")
        with serve(listen) as server:
            for members in (1, 50):
                conns = [open(server) for _ in range(members)]
                listening = [gevent.spawn(count, conn) for conn in conns]
                until(lambda: len(room) == members)
                sent, before = 0, ticks
                while ticks - before < 10:
                    room.send(str(sent))
                    sent += 1
                until(lambda: len(told) == sent * members)
                assert room.dropped == 0
                told.clear()
                for conn in conns:
                    conn.close()
                until(lambda: not len(room))
        """
    )


def test_watchers_are_stopped_in_the_thread_of_their_loop():
    run(
        """
        from scriptling_ws._network import greenlets
        where = []
        class Watcher:
            def stop(self):
                where.append(threading.get_ident())
            def close(self):
                pass
        hub = gevent.get_hub()
        apply = hub.threadpool.apply
        greenlets._end(hub, Watcher(), Watcher())
        assert where == [threading.get_ident()] * 2
        apply(greenlets._end, (hub, Watcher(), Watcher()))
        until(lambda: len(where) == 4)
        assert where == [threading.get_ident()] * 4
        """
    )


def test_a_server_is_closed_from_another_thread():
    run(
        """
        for _ in range(5):
            server = serve(echo)
            with open(server) as conn:
                conn.send("served")
                assert conn.receive(10) == "served"
                beat = server._operations._watch
                closing = gevent.spawn(gevent.get_hub().threadpool.apply, server.close)
                assert conn.receive(10) is None
                assert conn.close_code == 1001
                closing.get()
            until(lambda: not beat._timer.active)
        """
    )


def test_a_connection_outlives_the_thread_it_was_used_in():
    """Its watchers were of that thread's loop, which runs no more, or is no more."""
    run(
        """
        from gevent.threadpool import ThreadPool
        def use():
            conn = open(server)
            assert conn.receive(0.01) is None  # so there is a watcher, however busy it is here
            for timeout in (None, 30):
                conn.send("from a thread")
                assert conn.receive(timeout) == "from a thread"
            made.append(conn)
        def in_a_thread():
            thread = threading.Thread(target=use)
            thread.start()
            until(lambda: not thread.is_alive())
        def in_a_pool():
            pool = ThreadPool(1)
            pool.apply(use)
            pool.kill()
            until(lambda: made[-1]._link.transport.parking.hub.loop is None)
        made = []
        with serve(echo) as server:
            for way in (in_a_thread, in_a_thread, in_a_pool, in_a_pool):
                way()
                conn = made[-1]
                watcher = conn._link.transport.parking.watcher
                if len(made) % 2:
                    conn.send("from here")
                    assert conn.receive(10) == "from here"
                conn.close()
                assert conn.close_code == 1000
                if way is in_a_thread:
                    assert not watcher.active
            until(lambda: not server.connections)
        """
    )
