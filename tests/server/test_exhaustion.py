"""A server to which the system gives no more descriptors or threads, for real, and then again.

Each runs in a process of its own with a lowered limit. What single errors lead to is in
test_server_limits.py; descriptors that silent peers hold are in tests/test_cli.py.
"""

import contextlib
import socket
import sys

import pytest

from pairs import until
from processes import Process
from servers import Answer, RawWebSocket, head, read_all, read_until, upgrade

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them"),
]

SERVER = """
import resource, sys, threading, time
import scriptling_ws as ws
from scriptling_ws.runtime import HTTP

def memory():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[0]) * resource.getpagesize()

def echo(client):
    for message in client:
        client.send(message)

routes = HTTP()
routes.websocket("/echo", echo)
routes.get("/cpu", lambda request: str(time.process_time()))
LIMIT
server = ws.Server(routes=routes, port=0, ping_interval=None)
print(server.port, flush=True)
sys.stdin.read()
server.close()
print("closed", threading.active_count() <= 2, flush=True)
"""
DESCRIPTORS = "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
# Each thread takes a GiB of addresses, so that there is room for a few.
THREADS = """
threading.stack_size(1 << 30)
size = memory() + (6 << 30)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
"""


class Child:
    """A server in a process of its own."""

    def __init__(self, process):
        self._process = process
        self.port = int(process.line())

    def dial(self):
        sock = socket.create_connection(("127.0.0.1", self.port), 30)
        sock.settimeout(30)
        return sock

    def cpu(self):
        """The seconds of processor time that it has taken."""
        with self.dial() as sock:
            sock.sendall(head("/cpu"))
            return float(Answer(read_all(sock)).body)

    def end(self):
        self._process.end_input()
        assert self._process.finish() == (["closed True"], 0)


@contextlib.contextmanager
def server(limit):
    with Process.python("-c", SERVER.replace("LIMIT", limit)) as process:
        yield Child(process)


def upgraded(stack, child):
    """An open WebSocket, or the answer that it was refused with."""
    sock = stack.enter_context(child.dial())
    sock.sendall(upgrade("/echo"))
    data = read_until(sock, b"\r\n\r\n")
    if b" 101 " in data:
        return RawWebSocket(sock, None, data.partition(b"\r\n\r\n")[2])
    return Answer(data + read_all(sock))


def echoes(client):
    client.send(1, b"still here")
    return client.receive() == (1, b"still here")


@pytest.mark.abuse(62)
def test_connections_go_on_where_no_descriptor_is_left():
    with server(DESCRIPTORS) as child, contextlib.ExitStack() as stack:
        before = child.cpu()
        clients = [upgraded(stack, child) for _ in range(10)]
        assert all(map(echoes, clients))
        crowd = [stack.enter_context(child.dial()) for _ in range(60)]
        crowd[-1].settimeout(2)
        with pytest.raises(TimeoutError):  # it is in the backlog, and stays there
            crowd[-1].recv(1)
        assert all(map(echoes, clients))
        for sock in crowd:
            sock.close()
        for client in clients[5:]:
            client.send(8, b"\x03\xe8")
            assert client.close_code() == 1000
            client.sock.close()
        more = [upgraded(stack, child) for _ in range(3)]  # it has recovered
        assert all(map(echoes, clients[:5] + more))
        assert child.cpu() - before < 1  # of more than 2 s; spinning would cost all of them
        for client in clients[:5] + more:
            client.sock.close()
        child.end()


@pytest.mark.abuse(63)
def test_connections_go_on_where_no_thread_is_left():
    with server(THREADS) as child, contextlib.ExitStack() as stack:
        clients, answer = [], None
        while answer is None and len(clients) < 20:
            found = upgraded(stack, child)
            if isinstance(found, Answer):
                answer = found
            else:
                clients.append(found)
        assert clients
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert b"no thread left" in answer.body
        for _ in range(20):
            assert upgraded(stack, child).status == 503
        assert all(map(echoes, clients))
        leaving = clients.pop()
        leaving.send(8, b"\x03\xe8")
        assert leaving.close_code() == 1000
        leaving.sock.close()
        until(lambda: recovered(stack, child, clients))
        assert all(map(echoes, clients))
        for client in clients:
            client.sock.close()
        child.end()


def recovered(stack, child, clients):
    """Whether another client has got the thread of the one that has left."""
    found = upgraded(stack, child)
    if isinstance(found, Answer):
        return False
    clients.append(found)
    return True
