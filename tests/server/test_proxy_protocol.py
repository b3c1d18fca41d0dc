"""The PROXY protocol: headers by hand, and a server that is told its clients by them."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from pairs import until
from proxied import CLIENT, LOCAL, SIGNATURE, binary, line, raw_binary, telling_routes, tlv
from scriptling_ws._server.proxy_protocol import LONGEST, BadProxyHeader, ProxyHeader
from servers import (
    Answer,
    Certificates,
    RawWebSocket,
    dial,
    has_accepted,
    head,
    raw_websocket,
    read_all,
    read_until,
    serving,
    upgrade,
)
from strategies import quick

pytestmark = pytest.mark.once("it is about what proxies say of a client")

# -- the parser ------------------------------------------------------------


def read(data, size=None):
    """The source in a header, and what is left of the bytes, which come in pieces of a size."""
    header = ProxyHeader()
    while not header.done:
        piece = data[: min(size or header.wanted, header.wanted)]
        assert piece, "the header is not complete"
        data = data[header.feed(piece) :]
    return header.source, data


LINES = [
    (line(), "192.0.2.7:5000"),
    (line("2001:db8::7"), "[2001:db8::7]:5000"),
    (line("2001:DB8:0:0:0:0:0:7"), "[2001:db8::7]:5000"),
    (line("::ffff:192.0.2.7"), "192.0.2.7:5000"),
    (
        line("255.255.255.255", 65535, here="255.255.255.255", here_port=65535),
        "255.255.255.255:65535",
    ),
    (line(port=0, here_port=0), "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),  # 107 bytes
]
BINARIES = [
    (binary(), "192.0.2.7:5000"),
    (binary("2001:db8::7", 1), "[2001:db8::7]:1"),
    (binary("::ffff:192.0.2.7"), "192.0.2.7:5000"),
    (binary(port=0), "192.0.2.7"),
    (binary(more=tlv(2, b"example.com") + tlv(4, bytes(100))), "192.0.2.7:5000"),
    (binary(more=b"\x20\xff"), "192.0.2.7:5000"),  # what is behind the addresses is skipped
    (binary(more=bytes(LONGEST - 28)), "192.0.2.7:5000"),
    (binary(protocol=2), "192.0.2.7:5000"),  # HTTP/3 at the proxy
    (binary(protocol=0), None),
    (binary(None, protocol=0), None),
    (binary(None, protocol=0, more=bytes(7)), None),
    (raw_binary(0x31, bytes(216)), None),  # a Unix socket's
    (binary(command=LOCAL), None),
    (binary(None, command=LOCAL, protocol=0), None),
    (raw_binary(0xFF, b"whatever", 0x20), None),  # of LOCAL all is skipped
]


@looped("size", [None, 1, 7])
@looped(("header", "source"), LINES + BINARIES)
def test_headers(header, source, size):
    assert read(header + b"\x16\x03\x01", size) == (source, b"\x16\x03\x01")


BAD = [
    # No header.
    (b"GET / HTTP/1.1\r\n", "no PROXY header came"),
    (b"\x16\x03\x01\x02\x00", "no PROXY header came"),
    (b"\r\n\r\n\x00\r\nQUIT!", "no PROXY header came"),
    (b"PROXY\tTCP4", "no PROXY header came"),
    (b"proxy TCP4 ", "no PROXY header came"),
    (b"\x00", "no PROXY header came"),
    # Version 1.
    (b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "more than 107 bytes"),
    (b"PROXY TCP4 " + b"1" * 200, "more than 107 bytes"),
    (b"PROXY \r\n", "malformed"),
    (b"PROXY UNKNOWNX\r\n", "malformed"),
    (b"PROXY UNKNOWN \n\r\n", "malformed"),
    (b"PROXY TCP4\r\n", "malformed"),
    (b"PROXY TCP5 192.0.2.7 192.0.2.8 1 2\r\n", "malformed"),
    (b"PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7  192.0.2.8 1 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2 \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 01 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 65536 2\r\n", "malformed port"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n", "malformed port"),
    (b"PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n", "malformed address"),
    (b"PROXY TCP4 192.0.2.256 192.0.2.8 1 2\r\n", "malformed address"),
    (b"PROXY TCP4 192.0.2.7 192.0.2 1 2\r\n", "malformed address"),
    (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "malformed address"),
    (b"PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n", "malformed address"),
    (b"PROXY TCP6 fe80::1%1 fe80::2 1 2\r\n", "malformed"),
    (b"PROXY TCP4 localhost 192.0.2.8 1 2\r\n", "malformed"),
    # Version 2.
    (binary(version=1), "no version 1"),
    (binary(version=3), "no version 3"),
    (binary(command=2), "unknown command 2"),
    (binary(protocol=3), "unknown family or protocol"),
    (raw_binary(0x41, bytes(216)), "unknown family or protocol"),
    (raw_binary(0x11, bytes(11)), "too short"),
    (raw_binary(0x21, bytes(35)), "too short"),
    (raw_binary(0x31, bytes(215)), "too short"),
    (binary(more=bytes(LONGEST - 27)), f"more than the {LONGEST}"),
    (SIGNATURE + b"\x21\x11\xff\xff", "65551 bytes"),
]


@looped("size", [None, 1, 7])
@looped(("header", "says"), BAD)
def test_what_is_no_header(header, says, size):
    with pytest.raises(BadProxyHeader, match=says):
        read(header, size)


@looped("header", [header for header, _ in LINES + BINARIES])
def test_a_header_that_is_cut_is_waited_for(header):
    reader = ProxyHeader()
    for taken, byte in enumerate(header[:-1], 1):
        assert reader.feed(bytes([byte])) == 1
        assert not reader.done
        # Of a line as much as it may have, until the length of the other form is known.
        known = header.startswith(SIGNATURE) and taken >= 16
        assert reader.wanted == (len(header) if known else 107) - taken
    assert reader.feed(header[-1:] + b"GET") == 1
    assert reader.done


addresses = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None and a.scope_id is None),
)


@quick
@given(
    addresses,
    st.integers(1, 65535),
    st.binary(max_size=40),
    st.binary(max_size=300),
    st.integers(1, 50),
)
def test_an_address_comes_through_in_any_pieces(address, port, more, rest, size):
    source = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
    for header in (line(str(address), port), binary(str(address), port, more=more)):
        assert read(header + rest, size) == (source, (header + rest)[len(header) :])


@quick
@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]))
def test_any_bytes_are_a_header_or_refused_or_too_few(data, start):
    header = ProxyHeader()
    rest = start + data
    with contextlib.suppress(BadProxyHeader):
        while rest and not header.done:
            rest = rest[header.feed(rest[: header.wanted]) :]
    if header.source is not None:
        host = header.source.rpartition(":")[0] or header.source
        ipaddress.ip_address(host.strip("[]"))


# -- a server behind a proxy that sends them -----------------------------------


PROXIES = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}


@pytest.fixture(scope="module")
def certificates():
    return Certificates()


@pytest.fixture(params=["plain", "tls"])
def told(request, certificates):
    """A server that is told its clients, and a way to open a connection after a header."""
    options = {"ssl_context": certificates.server} if request.param == "tls" else {}

    @contextlib.contextmanager
    def after(header, size=None):
        with dial(server) as sock:
            for at in range(0, len(header), size or len(header)):
                sock.sendall(header[at : at + (size or len(header))])
            if options:
                # The session takes the socket over.
                with certificates.client.wrap_socket(sock, server_hostname="localhost") as tls:
                    yield tls
            else:
                yield sock

    with serving(routes=telling_routes(), **PROXIES, **options) as server:
        server.after = after
        server.secure = bool(options)
        yield server


def whom(sock):
    """Whom a handler sees: the client's address and the socket's."""
    sock.sendall(upgrade("/who"))
    data = read_until(sock, b"\r\n\r\n")
    opcode, payload = RawWebSocket(sock, None, data.partition(b"\r\n\r\n")[2]).receive()
    assert opcode == 1
    return payload.decode().split()


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize(("header", "source"), [LINES[0], LINES[1], BINARIES[0], BINARIES[4]])
def test_handlers_see_the_client(told, header, source, size):
    with told.after(header, size) as sock:
        own = "{}:{}".format(*sock.getsockname())
        assert whom(sock) == [source, own]
    with told.after(header, size) as sock:
        sock.sendall(head("/who"))
        assert Answer(read_all(sock)).body == f"{source} {told.secure}".encode()


@pytest.mark.parametrize("header", [LINES[6][0], BINARIES[9][0], BINARIES[11][0], BINARIES[13][0]])
def test_without_a_client_the_proxys_own_address_counts(told, header):
    with told.after(header) as sock:
        own = "{}:{}".format(*sock.getsockname())
        assert whom(sock) == [own, own]


def test_the_log_sees_the_client(told, log):
    with told.after(binary()) as sock:
        sock.sendall(head("/nothing"))
        assert Answer(read_all(sock)).status == 404
    assert log.wait_for(" 404").message.startswith(f"{CLIENT}:5000 GET '/nothing' 404")


def test_a_request_in_the_same_segment_as_the_header():
    with serving(routes=telling_routes(), **PROXIES) as server, dial(server) as sock:
        sock.sendall(line() + head("/who"))
        assert Answer(read_all(sock)).body == b"192.0.2.7:5000 False"


def test_what_a_client_says_of_itself_does_not_count(told):
    with told.after(binary()) as sock:
        sock.sendall(head("/who", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"))
        assert Answer(read_all(sock)).body == f"{CLIENT}:5000 {told.secure}".encode()


def test_a_proxy_behind_a_proxy(certificates):
    """The first one speaks HTTP and names the client; the second one passes its bytes on."""
    options = {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"], "proxy_protocol": True}
    with serving(routes=telling_routes(), **options) as server:
        for header, client in ((binary("10.1.1.1"), "192.0.2.9"), (binary(), f"{CLIENT}:5000")):
            with dial(server) as sock:
                sock.sendall(header + head("/who", "X-Forwarded-For: 6.6.6.6, 192.0.2.9"))
                assert Answer(read_all(sock)).body == f"{client} False".encode()


# -- abuse -----------------------------------------------------------------


@pytest.mark.abuse(17, 18)
@pytest.mark.parametrize(("header", "says"), [BAD[0], BAD[6], BAD[21], BAD[30], BAD[32], BAD[38]])
def test_a_bad_header_ends_the_connection_without_an_answer(told, log, header, says):
    with dial(told) as sock:
        sock.sendall(header)
        assert ended(sock) == b""
    assert says in log.wait_for("closed 127.0.0.1:").message
    with told.after(binary()) as sock:  # and nobody else's
        assert whom(sock)[0] == f"{CLIENT}:5000"


def ended(sock):
    """What a connection still says; unread bytes of the peer's make its end a reset."""
    with contextlib.suppress(ConnectionResetError):
        return read_all(sock)
    return b""


@pytest.mark.parametrize("said", [b"", b"PRO", line()[:-1], SIGNATURE, binary()[:-1]])
def test_a_header_that_does_not_end_is_given_up(log, said):
    options = {**PROXIES, "handshake_timeout": 0.2}
    with serving(routes=telling_routes(), **options) as server, dial(server) as sock:
        sock.sendall(said)
        assert ended(sock) == b""
        log.wait_for("- '-' -: the PROXY header took too long")


def test_a_header_that_drips_does_not_move_the_deadline(log):
    options = {**PROXIES, "handshake_timeout": 0.5}
    with serving(routes=telling_routes(), **options) as server, dial(server) as sock:
        sock.settimeout(0.02)
        data = None
        for byte in binary(more=bytes(4000)):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.send(bytes([byte]))
            try:
                data = ended(sock)
                break
            except TimeoutError:
                continue
        assert data == b""
        log.wait_for("the PROXY header took too long")


def test_who_leaves_in_the_header_is_forgotten(told):
    with dial(told) as sock:
        sock.sendall(b"PROXY TCP4")
    until(lambda: not told._acceptor._opening)


def test_slow_headers_cost_no_spin():
    """What has come of a header is taken, so that the poller does not tell of it again."""
    with serving(routes=telling_routes(), **PROXIES) as server, dial(server) as sock:
        until(lambda: has_accepted(server, sock))
        slow = server._acceptor._opening.front()
        until(lambda: slow.events)  # its first step is over: it waits
        steps = []
        advance = server._acceptor._advance
        server._acceptor._advance = lambda peer: (steps.append(peer), advance(peer))
        sock.sendall(binary()[:20])
        for _ in range(10):
            with dial(server) as other:
                other.sendall(line() + head("/who"))
                assert Answer(read_all(other)).status == 200
        assert 1 <= steps.count(slow) <= 2


def test_others_than_the_proxies_are_closed_at_once(log):
    options = {"trusted_proxies": ["192.0.2.1"], "proxy_protocol": True}
    with serving(routes=telling_routes(), **options) as server:
        for said in (b"", binary() + head("/who")):
            with dial(server) as sock:
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    sock.sendall(said)
                assert ended(sock) == b""
        log.wait_for("it is none of the trusted_proxies")


def test_a_server_that_expects_none_answers_a_header_as_any_bad_request(log):
    with serving(routes=telling_routes(), trusted_proxies=["127.0.0.1"]) as server:
        for header in (line(), binary()):
            with dial(server) as sock:
                sock.sendall(header + head("/who"))
                assert Answer(read_all(sock)).status == 400


# -- limits ----------------------------------------------------------------


def test_the_limit_of_an_address_is_that_of_the_client(told):
    told._acceptor._callers.limits._most_per_address = 1
    with contextlib.ExitStack() as stack:
        for client in ("192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"):
            sock = stack.enter_context(told.after(binary(client)))
            sock.sendall(upgrade("/echo"))
            assert b" 101 " in read_until(sock, b"\r\n\r\n")
        for client in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1::9"):
            with told.after(binary(client)) as sock:
                sock.sendall(upgrade("/echo"))
                assert Answer(read_all(sock)).status == 503


def test_a_proxy_may_have_any_number_of_connections():
    options = {**PROXIES, "max_connections_per_address": 1, "handshake_timeout": 30}
    with serving(routes=telling_routes(), **options) as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dial(server)) for _ in range(40)]
        for number, sock in enumerate(socks):
            sock.sendall(line(f"192.0.2.{number}") + upgrade("/echo"))
            assert b" 101 " in read_until(sock, b"\r\n\r\n")


def test_a_client_cannot_use_up_the_descriptors_behind_its_proxy(log):
    options = {**PROXIES, "max_connections_per_address": 1, "handshake_timeout": 30}
    with serving(routes=telling_routes(), **options) as server, contextlib.ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(dial(server)).sendall(line())
        until(lambda: server._acceptor._callers.limits._sockets.get("192.0.2.7") == 9)
        with dial(server) as more:
            more.sendall(line())
            assert ended(more) == b""
        log.wait_for("max_connections_per_address says how many")
        with dial(server) as other:
            other.sendall(line("192.0.2.8") + head("/who"))
            assert Answer(read_all(other)).status == 200
    limits = server._acceptor._callers.limits
    until(lambda: not limits._sockets)  # all were counted out again


def test_without_the_option_nothing_changes():
    with serving(routes=telling_routes()) as server, raw_websocket(server, "/who") as client:
        own = "{}:{}".format(*client.address)
        assert client.receive()[1].decode() == f"{own} {own}"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"proxy_protocol": True}, ValueError, "name the proxies"),
        ({"proxy_protocol": 1}, TypeError, "True or False"),
        ({"trusted_proxies": "127.0.0.1"}, TypeError, "a list of str"),
        ({"trusted_proxies": [1]}, TypeError, "has to hold str"),
        ({"trusted_proxies": ["localhost"]}, ValueError, "'localhost': write an address"),
        ({"trusted_proxies": ["*"]}, ValueError, "'\\*': write an address"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, ValueError, "has host bits set"),
        ({"trusted_proxies": ["10.0.0.0/33"]}, ValueError, "a network such as"),
        ({"forwarded_header": "x-real-ip"}, ValueError, "'x-forwarded-for' or 'forwarded'"),
    ],
)
def test_options_that_cannot_be(options, error, says):
    with pytest.raises(error, match=says):
        serving(routes=telling_routes(), **options)
