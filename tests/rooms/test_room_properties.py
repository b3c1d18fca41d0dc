"""Every member that stays gets every message once and in order, or its loss is counted."""

import contextlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guests import SMALL, is_quiet, new_room, numbers_to_close, pair
from pairs import connection, receive_frame, running

# What happens, in this order: a message of a size is sent, or a member reads some.
SENDS = st.tuples(st.just("send"), st.integers(0, 20_000))
READS = st.tuples(st.integers(0, 2), st.integers(1, 5))
STEPS = st.lists(st.one_of(SENDS, SENDS, READS), max_size=60)


class Reader:
    """A member, the plain socket of its peer, and what that has read."""

    def __init__(self, stack, room):
        near, self.sock = pair(SMALL)
        self.sock.settimeout(10)
        self.conn = connection(near, client=False, send_timeout=None, ping_interval=None)
        stack.callback(self.conn.close)
        stack.callback(self.conn._abort)
        stack.callback(self.sock.close)
        room.join(self.conn)
        self.got = []

    def read(self, count, expected):
        """Read so many, but not more than surely come."""
        while count and len(self.got) < expected():
            self.got.append(int(receive_frame(self.sock)[1].split()[0]))
            count -= 1


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.integers(1, 5), st.sampled_from(["drop_oldest", "drop_newest"]))
def test_what_is_not_received_was_dropped(steps, queue, policy):
    room = new_room(queue=queue, policy=policy)
    with contextlib.ExitStack() as stack:
        readers = [Reader(stack, room) for _ in range(3)]
        sent = 0
        for what, number in steps:
            if what == "send":
                room.send(f"{sent} " + "x" * number)
                sent += 1
            else:
                reader = readers[what]
                # What is queued may still be dropped: what has come at least is what has not been.
                most = sent - room.dropped_of(reader.conn) - queue
                reader.read(number, lambda most=most: most)
        for reader in readers:
            reader.read(-1, lambda conn=reader.conn: sent - room.dropped_of(conn))
            assert is_quiet(reader.sock)
            assert reader.got == sorted(set(reader.got))
            assert len(reader.got) + room.dropped_of(reader.conn) == sent
        assert room.dropped == sum(room.dropped_of(reader.conn) for reader in readers)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 20_000), max_size=40), st.integers(1, 5))
def test_a_member_that_is_closed_has_got_the_first_messages(sizes, queue):
    room = new_room(queue=queue)
    with contextlib.ExitStack() as stack:
        reader = Reader(stack, room)
        stays = Reader(stack, new_room())
        for number, size in enumerate(sizes):
            room.send(f"{number} " + "x" * size)
        if reader.conn in room:
            assert room.dropped == 0
            reader.read(-1, lambda: len(sizes))
            assert reader.got == list(range(len(sizes)))
        else:

            def answer():
                reader.got, code = numbers_to_close(reader.sock)
                assert code == 1013
                reader.sock.close()

            with running(answer):
                reader.conn.close()
            assert reader.got == list(range(len(reader.got)))
            # Those after the close were for nobody.
            assert len(reader.got) + room.dropped <= len(sizes)
            assert room.dropped >= 1
        assert stays.got == []
