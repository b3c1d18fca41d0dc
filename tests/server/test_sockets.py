"""Where a server listens: sockets that it is given, Unix sockets, several hosts."""

import contextlib
import errno
import os
import socket
import stat

import pytest

from children import in_child
from pairs import SOON, until
from scriptling_ws._network import listen as _listen
from scriptling_ws._network import unix as _unix
from scriptling_ws._network.listen import check_hosts, listen
from scriptling_ws._network.unix import listen_unix
from scriptling_ws._server.server import Server
from servers import Answer, RawWebSocket, echo, head, read_all, read_until, serving, upgrade

pytestmark = pytest.mark.processes

unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of files")


def dial(address):
    """A plain socket to an address, which is a path for a Unix socket."""
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    sock = socket.socket(family)
    sock.settimeout(SOON)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def raw_websocket(address, *lines, **changes):
    """An upgraded socket to an address."""
    with dial(address) as sock:
        sock.sendall(upgrade("/", *lines, **changes))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        yield RawWebSocket(sock, None, b"")


def echoes(address, **changes):
    """Whether a WebSocket at an address is answered."""
    with raw_websocket(address, **changes) as client:
        client.send(1, b"hello")
        answer = client.receive()
        client.send(8, (1000).to_bytes(2, "big"))
        return answer == (1, b"hello") and client.close_code() == 1000


def status_of(address, request):
    with dial(address) as sock:
        sock.sendall(request)
        return Answer(read_until(sock, b"\r\n\r\n")).status


def listening(address=("127.0.0.1", 0)):
    return socket.create_server(address)


# -- sockets that are given ------------------------------------------------------------


def test_a_socket_of_ones_own():
    sock = listening()
    address = sock.getsockname()
    with serving(echo, sock=sock, port=1) as server:
        assert server.port == address[1]
        assert server.url == f"ws://127.0.0.1:{address[1]}"
        assert echoes(address)
    assert sock.fileno() == -1  # it was the server's
    with pytest.raises(ConnectionRefusedError):
        dial(address)


def test_several_sockets():
    socks = [listening() for _ in range(3)]
    addresses = [sock.getsockname() for sock in socks]
    with serving(echo, sock=iter(socks)) as server:
        assert server.port == addresses[0][1]
        assert all(echoes(address) for address in addresses)
    assert {sock.fileno() for sock in socks} == {-1}


@unix_only
def test_sockets_of_several_families(tmp_path):
    path = str(tmp_path / "socket")
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen()
    with serving(echo, sock=[unix, listening()]) as server:
        assert (server.port, server.address) == (0, f"unix:{path}")
        assert echoes(path)
        # On the loopback names are told from each other, and so they are here.
        assert status_of(path, upgrade(host="a.example")) == 400
    assert os.path.exists(path)  # who has made it removes it


def test_the_names_of_a_socket_of_ones_own_are_those_of_its_address():
    with serving(echo, sock=listening()) as server:
        address = ("127.0.0.1", server.port)
        assert status_of(address, upgrade(host="localhost")) == 101
        assert status_of(address, upgrade(host="a.example")) == 400


def unbound(kind=socket.SOCK_STREAM):
    return socket.socket(socket.AF_INET, kind)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: unbound(), ValueError, "does not listen: call its listen"),
        (lambda: unbound(socket.SOCK_DGRAM), ValueError, "is no stream socket"),
        (list, ValueError, "sock is empty"),
        (lambda: [3], TypeError, "sock has to hold sockets, not int"),
        (lambda: 3, TypeError, "sock has to be a listening socket, a list of these, or 'systemd'"),
        (lambda: "other", TypeError, "not 'other'"),
        (lambda: b"systemd", TypeError, "not bytes"),
        (lambda: "systemd", OSError, "systemd has passed no socket"),
    ],
)
def test_what_is_no_socket_to_serve(make, error, text, monkeypatch):
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    sock = make()
    with pytest.raises(error, match=text):
        Server(echo, sock=sock)
    if isinstance(sock, socket.socket):
        sock.close()  # it is still the caller's


def test_two_places_exclude_each_other(tmp_path):
    with listening() as sock:
        with pytest.raises(ValueError, match="sock and unix exclude each other"):
            Server(echo, sock=sock, unix=tmp_path / "socket")
        for options in ({"unix_mode": 0o660}, {"unix_owner": "root"}):
            with pytest.raises(ValueError, match="give unix= its path"):
                Server(echo, sock=sock, **options)


# -- several hosts -------------------------------------------------------------------------


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@needs_ipv6
@pytest.mark.parametrize("host", [["127.0.0.1", "::1"], ("0.0.0.0", "::")])
def test_both_families_with_one_port(host):
    with serving(echo, host=host) as server:
        assert server.address == f"{host[0]}:{server.port}"
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as sock:
                sock.settimeout(SOON)
                sock.connect((address, server.port))
                sock.sendall(head("/x"))
                assert Answer(read_all(sock)).status == 426


def test_hosts_that_share_an_address():
    socks = listen(["127.0.0.1", "localhost", "127.0.0.1"], 0)
    with contextlib.ExitStack() as stack:
        for sock in socks:
            stack.enter_context(sock)
        names = [sock.getsockname()[:2] for sock in socks]
        assert len(set(names)) == len(names)
        assert {port for _, port in names} == {names[0][1]}
        assert names[0][0] == "127.0.0.1"


def test_each_host_has_to_be_here():
    """Of one name's addresses some may be absent, of several hosts none."""
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        Server(echo, host=["127.0.0.1", "192.0.2.1"], port=0)


def test_a_host_that_no_address_is_left_of(monkeypatch):
    monkeypatch.setattr(_listen, "_look_up", lambda host, port: [])
    with pytest.raises(OSError, match=r"cannot listen on b\.test:0: no address"):
        listen(["b.test", "c.test"], 0)


def test_the_names_of_several_hosts_are_allowed(monkeypatch):
    real = _listen._look_up
    monkeypatch.setattr(_listen, "_look_up", lambda host, port: real("127.0.0.1", port))
    with serving(echo, host=["a.example", "b.example"]) as server:
        address = ("127.0.0.1", server.port)
        for name, status in (("a.example", 101), ("b.example", 101), ("c.example", 400)):
            assert status_of(address, upgrade(host=name)) == status


@pytest.mark.parametrize(
    ("host", "error", "text"),
    [
        ([], ValueError, "host is an empty list"),
        ([""], ValueError, "host is empty"),
        (["127.0.0.1", ""], ValueError, "host is empty"),
        ([1], TypeError, "has to be a str, or a list of str, not int"),
        (1, TypeError, "has to be a str, or a list of str, not int"),
        (b"127.0.0.1", TypeError, "not bytes"),
    ],
)
def test_wrong_hosts(host, error, text):
    with pytest.raises(error, match=text):
        check_hosts(host)


# -- Unix sockets ------------------------------------------------------------------------------


@unix_only
def test_a_unix_socket(tmp_path, log):
    path = str(tmp_path / "a ü.sock")
    seen = []

    def handler(client):
        seen.append((client.remote_addr, client.local_addr))
        echo(client)

    with serving(handler, unix=path) as server:
        assert server.port == 0
        assert server.address == f"unix:{tmp_path}/a \\xfc.sock"
        assert server.url == f"ws+unix://{tmp_path}/a%20%C3%BC.sock"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert echoes(path)
        assert echoes(path, host="any.example")  # the proxy in front decides
        assert status_of(path, head("/x")) == 426
    assert seen[0] == ("unix:", server.address)
    assert not os.path.exists(path)
    assert "unix: GET '/x' 426: " in " ".join(log.texts())


@unix_only
def test_a_client_that_has_named_its_socket(tmp_path, log):
    """Its name is a peer's text: with colons it is no IPv6 address, with a line end no line."""
    path, own = str(tmp_path / "socket"), str(tmp_path / "a:b\n1:c")
    with (
        serving(echo, unix=path, max_connections_per_address=1) as server,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.settimeout(SOON)
        sock.bind(own)
        sock.connect(path)
        sock.sendall(upgrade())
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        until(lambda: server.connections)
        (connection,) = server.connections
        assert connection.remote_addr == f"unix:{tmp_path}/a:b\\n1:c"
        assert status_of(path, upgrade()) == 503  # all are one address
        RawWebSocket(sock, None, b"").answer_close()
        assert b"\x88" in read_all(sock)
    assert not any("\n" in text for text in log.texts())


@unix_only
@posix_only
def test_its_mode_and_owner(tmp_path):
    path = tmp_path / "socket"
    group = os.getgid()
    with serving(echo, unix=path, unix_mode=0o660, unix_owner=f"{os.getuid()}:{group}"):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert (found.st_uid, found.st_gid) == (os.getuid(), group)
    before = os.umask(0o077)
    try:
        with serving(echo, unix=path, unix_mode=0o666, unix_owner=f":{group}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666  # whatever the umask is
    finally:
        os.umask(before)


@unix_only
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="root alone gives away")
def test_root_gives_it_to_another_user(tmp_path):
    path = tmp_path / "socket"
    with serving(echo, unix=path, unix_owner="12345:54321"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)
    with serving(echo, unix=path, unix_owner="root"):
        assert path.stat().st_uid == 0


@unix_only
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"unix": ""}, ValueError, "has to be a path, such as"),
        ({"unix": "a\0b"}, ValueError, "has to be a path, such as"),
        ({"unix": 3}, TypeError, "unix has to be a path, not int"),
        ({"unix_mode": 660}, ValueError, "not 660: did you mean 0o660"),
        ({"unix_mode": 999}, ValueError, "not 999$"),
        ({"unix_mode": -1}, ValueError, "0 to 0o777, not -1"),
        ({"unix_mode": "660"}, TypeError, "an int such as 0o660, not str"),
        ({"unix_mode": True}, TypeError, "an int such as 0o660, not bool"),
        ({"unix_owner": ""}, ValueError, "has to be 'user:group'"),
        ({"unix_owner": ":"}, ValueError, "has to be 'user:group'"),
        ({"unix_owner": "root:"}, ValueError, "has to be 'user:group'"),
        ({"unix_owner": 0}, TypeError, "unix_owner has to be a str"),
        ({"unix_owner": "no-such-user"}, ValueError, "unix_owner: no such user"),
        ({"unix_owner": ":no-such-group"}, ValueError, "unix_owner: no such group"),
        ({"unix_owner": "9" * 30}, ValueError, "unix_owner: "),
        ({"unix": "x" * 200}, OSError, "cannot listen on unix:.*xxx: .*too long"),
        ({"unix": "no/such/folder"}, OSError, "cannot listen on unix:.*: No such file"),
    ],
)
def test_what_cannot_be_a_unix_socket_leaves_nothing(tmp_path, monkeypatch, options, error, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        Server(echo, **{"unix": "socket", **options})
    assert os.listdir(tmp_path) == []


@unix_only
def test_a_stale_file_is_replaced(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    assert os.path.exists(path)
    with serving(echo, unix=path):
        assert echoes(path)
    assert not os.path.exists(path)


@unix_only
def test_a_server_that_listens_is_left_alone(tmp_path):
    path = str(tmp_path / "socket")
    with serving(echo, unix=path):
        with pytest.raises(OSError, match="another server listens on it") as caught:
            Server(echo, unix=path)
        assert caught.value.errno == errno.EADDRINUSE
        assert echoes(path)


@unix_only
def test_a_server_that_is_busy_is_left_alone(tmp_path):
    """Its queue is full, so that a connection to it would wait."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(path)
        busy.listen(0)
        result = 0
        while not result:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            result = sock.connect_ex(path)
        assert result == errno.EAGAIN
        with pytest.raises(OSError, match="another server listens on it"):
            Server(echo, unix=path)
        assert os.path.exists(path)


@unix_only
@pytest.mark.parametrize("kind", ["file", "folder", "link", "datagrams"])
def test_what_is_no_socket_to_replace_is_left_alone(tmp_path, kind):
    path = tmp_path / "socket"
    with contextlib.ExitStack() as stack:
        if kind == "file":
            path.write_text("precious")
        elif kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(tmp_path / "elsewhere")
        else:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            sock.bind(str(path))
        before = path.lstat()
        with pytest.raises(OSError, match="cannot listen on unix:") as caught:
            Server(echo, unix=path)
        assert caught.value.errno == errno.EADDRINUSE
        assert path.lstat() == before


@unix_only
def test_a_file_that_another_server_has_replaced_is_that_ones(tmp_path):
    path = tmp_path / "socket"
    with serving(echo, unix=path):
        path.unlink()  # by hand
        with serving(echo, unix=path):
            assert echoes(str(path))
    assert not path.exists()
    with serving(echo, unix=path):
        path.unlink()
        path.write_text("something else")
    assert path.read_text() == "something else"


@unix_only
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_removes_nothing(tmp_path):
    path = tmp_path / "socket"
    with serving(echo, unix=path) as server:
        in_child(server.close)
        in_child(server._endpoints.close)
        assert echoes(str(path))
    assert not path.exists()


@unix_only
def test_a_program_may_change_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = serving(echo, unix="socket")
    monkeypatch.chdir("/")
    with server:
        assert echoes(str(tmp_path / "socket"))
    assert not (tmp_path / "socket").exists()


@unix_only
def test_where_no_thread_can_be_started_no_file_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("scriptling_ws._server.server.start_thread", full)
    with pytest.raises(OSError, match="a server needs threads"):
        Server(echo, unix=tmp_path / "socket")
    assert os.listdir(tmp_path) == []


def test_a_system_without_unix_sockets(monkeypatch, tmp_path):
    monkeypatch.setattr(_unix, "_UNIX", -1)
    with pytest.raises(OSError, match=r"no Unix sockets .*: use host and port") as caught:
        listen_unix(tmp_path / "socket")
    assert caught.value.errno == errno.EAFNOSUPPORT
