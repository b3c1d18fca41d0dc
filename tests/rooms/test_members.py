"""Members that do not read: what waits for them, what is dropped, and whom it holds up: nobody."""

import contextlib
import os
import socket

import pytest

from frames import PING, close_frame, frame
from guests import BLOCK, SMALL, guest, guests, is_quiet, new_room, numbers, numbers_to_close, stall
from pairs import (
    SOON,
    ByMethod,
    Running,
    connection,
    receive_frame,
    reset,
    running,
    tcp_pair,
    tls_pair,
    until,
)
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._rooms import member as _member
from scriptling_ws._rooms import message as _message

DROPPING = ["drop_oldest", "drop_newest"]
ALONE = Terms(server_no_context_takeover=True, server_max_window_bits=12)


# -- the queue and its policies -----------------------------------------------------


def test_what_is_queued_comes_once_the_member_reads():
    room = new_room(queue=1000)
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        for number in range(count + 1, count + 21):
            room.send(f"{number} {BLOCK}")
        assert room.stats().queued >= 20
        assert numbers(far, count + 20) == list(range(1, count + 21))
        until(lambda: not room.stats().queued)
        room.send("0 after")
        assert numbers(far, 1) == [0]
        assert room.dropped == 0


@pytest.mark.parametrize("policy", DROPPING)
def test_dropping(policy):
    room = new_room(queue=3, policy=policy)
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)  # the last of them is queued
        for number in range(count + 1, count + 10):
            room.send(f"{number} {BLOCK}")
        assert room.stats().queued == 3
        assert room.dropped == room.dropped_of(conn) == 7
        first = count + 7 if policy == "drop_oldest" else count
        assert numbers(far, count + 2) == [*range(1, count), *range(first, first + 3)]
        assert is_quiet(far)
        room.leave(conn)
        assert (room.dropped, room.dropped_of(conn)) == (7, 0)


def test_closing():
    room = new_room(queue=3)
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        for number in range(count + 1, count + 4):
            room.send(f"{number} {BLOCK}")
        assert len(room) == 0
        assert room.dropped == 4
        assert conn.close_code == 1013
        with running(conn.close):
            assert numbers_to_close(far) == ([*range(1, count)], 1013)
            far.sendall(close_frame(1013, mask=True))
            far.close()


@pytest.mark.parametrize("policy", DROPPING)
def test_the_bound_in_bytes(policy):
    room = new_room(queue_bytes=3 * len(BLOCK), policy=policy)
    with guest(buffer=SMALL) as (conn, _):
        room.join(conn)
        stall(room, conn)
        for _ in range(10):
            room.send(BLOCK)
        assert room.stats().queued == 2  # with their headers
        assert room.dropped == 9


def test_one_message_is_kept_whatever_its_size():
    room = new_room(queue_bytes=1)
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        assert room.stats().queued == 1
        assert numbers(far, count) == list(range(1, count + 1))


def test_a_large_message_begins_and_goes_on():
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        room.send_binary(bytes(1_000_000))
        room.send("behind it")
        assert receive_frame(far)[1] == bytes(1_000_000)
        assert receive_frame(far)[1] == b"behind it"


@pytest.mark.parametrize("others", [0, 1])
def test_a_frame_in_hand_is_the_oldest(others):
    """One that could not be sent on is the first again; or dropped, where another has its place."""
    room = new_room(queue=1, policy="drop_oldest")
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        member = room._members[conn]
        with conn._outlet.lock:  # as the connection's own sender has it: nothing can be sent on
            frame = member._take_out()
            for _ in range(others):
                room.send(f"{count + 1} {BLOCK}")
            assert room.stats().queued == 1 + others
            assert member._send_on(*frame) is False
        assert (room.stats().queued, room.dropped) == (1, others)
        assert numbers(far, count) == [*range(1, count), count + others]
        assert is_quiet(far)


def test_who_cannot_be_sent_on_to_is_ended():
    room = new_room()
    with guest() as (conn, _):
        room.join(conn)
        room._members[conn].give_up()
        assert len(room) == 0
        assert not conn.connected()


# -- nobody is held up ----------------------------------------------------------------


@pytest.mark.parametrize("policy", DROPPING)
def test_a_member_that_does_not_read_delays_nobody(policy):
    """Were it waited for, this would not end: its connection has no send_timeout."""
    room = new_room(queue=10, policy=policy)
    with guests(1, buffer=SMALL) as [(lazy, _)], guests(2) as found:
        for conn in (lazy, *(conn for conn, _ in found)):
            room.join(conn)
        for number in range(300):
            room.send(f"{number} {BLOCK}")
            for _, far in found:
                assert numbers(far, 1) == [number]
        assert room.dropped == room.dropped_of(lazy) > 250


def test_a_blocked_sender_of_the_connection_holds_up_nobody():
    """Its handler waits in `send`, with the connection's lock: the room's messages wait for it."""
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        blocked = Running(conn.send_binary, bytes(500_000))
        until(conn._outlet.lock.locked)
        room.send("1 behind it")
        assert room.stats().queued == 1
        assert not blocked.done()
        assert receive_frame(far)[1] == bytes(500_000)
        blocked.result()
        assert numbers(far, 1) == [1]
        until(lambda: not room.stats().queued)


def test_the_handlers_own_message_goes_between_two_of_the_rooms():
    room = new_room(queue=100)
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        for number in range(count + 1, count + 6):
            room.send(f"{number} {BLOCK}")
        own = Running(conn.send, "0 own")
        found = numbers(far, count + 6)
        own.result()
        found.remove(0)
        assert found == list(range(1, count + 6))


def test_two_rooms_on_one_connection():
    first, second = new_room(queue=1000), new_room(queue=1000)
    with guest(buffer=SMALL) as (conn, far):
        first.join(conn)
        second.join(conn)
        count = stall(first, conn)
        for number in range(20):
            first.send(f"{count + 1 + number} {BLOCK}")
            second.send(f"{10_000 + number} {BLOCK}")
        found = numbers(far, count + 40)
        assert [number for number in found if number < 10_000] == list(range(1, count + 21))
        assert [number for number in found if number >= 10_000] == list(range(10_000, 10_020))


def test_a_thousand_members_some_of_which_do_not_read():
    resource = pytest.importorskip("resource")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 3000:
        pytest.skip("there are too few descriptors")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 3000), most))
    room = new_room(queue=4, policy="drop_oldest")
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        readers = stack.enter_context(guests(980))
        lazy = stack.enter_context(guests(20, buffer=SMALL))
        for conn, _ in readers + lazy:
            room.join(conn)
        while any(room.dropped_of(conn) == 0 for conn, _ in lazy):
            room.send(BLOCK)
            for _, far in readers:
                assert receive_frame(far)[1] == BLOCK.encode()
        assert len(room) == 1000
        assert room.stats().queued == 4 * len(lazy)
        assert room.dropped == sum(room.dropped_of(conn) for conn, _ in lazy)


# -- who comes and goes meanwhile -------------------------------------------------------


def test_leaving_drops_what_is_queued():
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        room.leave(conn)
        assert numbers(far, count - 1) == list(range(1, count))  # what has begun is finished
        conn.send("0 own")
        assert numbers(far, 1) == [0]
        room.join(conn)
        room.send("1 again")
        assert numbers(far, 1) == [1]


def test_a_frame_that_has_begun_is_finished_for_one_that_has_left():
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        room.send_binary(bytes(1_000_000))
        room.leave(conn)
        assert receive_frame(far)[1] == bytes(1_000_000)
        conn.send("0 own")
        assert numbers(far, 1) == [0]


@pytest.mark.parametrize("begun", [False, True])
def test_nothing_overtakes_the_queue(monkeypatch, begun):
    """Though the system would take it by now, and nothing of the queue was sent on so far."""
    monkeypatch.setattr(_member.courier, "take", lambda member: True)
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = 0 if begun else stall(room, conn)
        if begun:
            room.send_binary(bytes(100_000))
            far.recv(1_000_000)
        else:
            numbers(far, count - 1)
        room.send(f"{count + 1} {BLOCK}")
        assert room.stats().queued == (1 if begun else 2)
        assert is_quiet(far)


def test_a_message_that_is_on_its_way_as_a_member_leaves_is_not_sent():
    room = new_room()
    with guest() as (conn, far):
        room.join(conn)
        member = room._members[conn]
        room.leave(conn)
        room._groups = [(member.form, [member])]  # as a broadcast has it that has begun before
        room.send("late")
        assert is_quiet(far)


@pytest.mark.parametrize("how", ["close", "reset", "abort"])
def test_a_connection_that_ends_with_a_queue(how):
    room = new_room()
    with guests(2, buffer=SMALL) as ((conn, far), (other, other_far)):
        room.join(conn)
        count = stall(room, conn)
        room.join(other)
        if how == "close":
            close = Running(conn.close)
            until(lambda: len(room) == 1)
            numbers_to_close(far)
            far.sendall(close_frame(mask=True))
            far.close()
            close.result()
        elif how == "reset":
            reset(far)
            until(lambda: len(room) == 1)
        else:
            conn._abort()
        assert len(room) == 1
        assert conn not in room
        room.send(f"{count} after")
        assert numbers(other_far, 1) == [count]


def test_a_broken_connection_leaves_and_the_others_get_the_message():
    room = new_room()
    with guests(3) as found:
        for conn, _ in found:
            room.join(conn)
        reset(found[1][1])
        until(lambda: room.send("x") or len(room) == 2)
        sent = room.stats().sent
        for index in (0, 2):
            assert [receive_frame(found[index][1])[1] for _ in range(sent)] == [b"x"] * sent
        assert found[1][0] not in room


def test_answers_go_before_what_is_queued():
    """A ping that comes while the member is stalled is answered once it reads."""
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        far.sendall(frame(PING, b"there?", mask=True))
        conn.receive(0)
        frames = [receive_frame(far) for _ in range(count + 1)]
        assert (0x8A, b"there?") in frames
        frames.remove((0x8A, b"there?"))
        assert [int(payload.split()[0]) for _, payload in frames] == list(range(1, count + 1))


def test_an_exception_of_a_signal_handler_passes():
    """What `send` raises that is no error of the connection reaches the sender."""
    room = new_room()
    with guest() as (conn, _):
        room.join(conn)
        member = room._members[conn]
        assert member.broke(b"x", TimeoutError("a signal handler's")) is False
        assert conn in room
        assert member.broke(b"x", ConnectionResetError(104, "reset")) is True
        assert conn not in room


# -- TLS and compression -----------------------------------------------------------------


def test_tls():
    room = new_room(queue=1000)
    client_end, server_end = tls_pair(buffer=SMALL)
    client = connection(client_end, client=True)
    server = connection(server_end, client=False)
    with contextlib.ExitStack() as stack:
        for conn in (client, server):
            stack.callback(conn.close)
            stack.callback(conn._abort)
        room.join(server)
        count = stall(room, server)
        for number in range(count + 1, count + 21):
            room.send(f"{number} {BLOCK}")
        found = [int(client.receive(SOON).split()[0]) for _ in range(count + 20)]
        assert found == list(range(1, count + 21))
        until(lambda: not room.stats().queued)


def test_a_compressed_frame_is_shared(monkeypatch):
    made = []
    compressor = _message.Compressor

    class Counting(compressor):
        def __init__(self, bits, takeover, level):
            made.append(bits)
            super().__init__(bits, takeover, level)

    monkeypatch.setattr(_message, "Compressor", Counting)
    room = new_room()
    with (
        guests(3, deflate=ALONE) as alone,
        guests(2) as plain,
        guests(1, deflate=Terms()) as taking,
    ):
        for conn, _ in alone + plain + taking:
            room.join(conn)
        room.send(BLOCK)
        room.send("short")
        compressed = {receive_frame(far) for _, far in alone}
        assert len(compressed) == 1
        [(first, payload)] = compressed
        assert first == 0xC1
        assert len(payload) < 100
        assert made == [12]
        for _, far in plain + taking:  # what refers to earlier messages cannot be shared
            assert receive_frame(far) == (0x81, BLOCK.encode())
        for _, far in alone + plain + taking:
            assert receive_frame(far) == (0x81, b"short")


@pytest.mark.parametrize("terms", [ALONE, Terms()])
def test_compression_is_understood(terms):
    room = new_room()
    near, far = tcp_pair()
    server = connection(near, client=False, deflate=terms)
    client = connection(far, client=True, deflate=terms)
    with contextlib.ExitStack() as stack:
        for conn in (client, server):
            stack.callback(conn.close)
            stack.callback(conn._abort)
        room.join(server)
        for number in range(3):
            room.send(f"{number} {BLOCK}")
            server.send(f"own {BLOCK}")
            assert client.receive(SOON) == f"{number} {BLOCK}"
            assert client.receive(SOON) == f"own {BLOCK}"


def test_the_members_of_all_kinds_together():
    room = new_room()
    with contextlib.ExitStack() as stack:
        ends = []
        for kind in ("plain", "tls", "compressed", "client", "method"):
            far_end, near_end = tls_pair() if kind == "tls" else tcp_pair()
            terms = ALONE if kind == "compressed" else None
            near_end = ByMethod(near_end) if kind == "method" else near_end
            near = connection(near_end, client=kind == "client", deflate=terms)
            far = connection(far_end, client=kind != "client", deflate=terms)
            for conn in (near, far):
                stack.callback(conn.close)
                stack.callback(conn._abort)
            room.join(near)
            ends.append(far)
        for number in range(20):
            room.send(f"{number} {BLOCK}")
            room.send_binary([number])
        for far in ends:
            for number in range(20):
                assert far.receive(SOON) == f"{number} {BLOCK}"
                assert far.receive(SOON) == [number]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX") or os.name == "nt", reason="no such sockets")
def test_a_unix_socket():
    room = new_room(queue=1000)
    near, far = socket.socketpair()
    far.settimeout(SOON)
    conn = connection(near, client=False)
    with contextlib.ExitStack() as stack:
        stack.callback(conn.close)
        stack.callback(conn._abort)
        stack.callback(far.close)
        room.join(conn)
        count = stall(room, conn)
        assert numbers(far, count) == list(range(1, count + 1))
