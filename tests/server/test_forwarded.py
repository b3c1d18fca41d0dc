"""X-Forwarded-For and Forwarded: read from the right, and believed of trusted proxies alone."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from pairs import until
from proxied import telling_routes
from scriptling_ws._network.authority import host_of
from scriptling_ws._server.forwarded import Hop, read_forwarded, read_x_forwarded_for
from scriptling_ws._server.proxies import Client, Proxies
from servers import (
    Answer,
    ask,
    dial,
    head,
    raw_websocket,
    read_all,
    read_until,
    serving,
    status_of,
    upgrade,
)
from strategies import quick

pytestmark = pytest.mark.once("it is about what proxies say of a client")

NOBODY = Hop(None)

# -- the headers -----------------------------------------------------------

NODES = [
    ("192.0.2.1", "192.0.2.1"),
    ("192.0.2.1:80", "192.0.2.1:80"),
    ("192.0.2.1:0", "192.0.2.1"),
    ("2001:db8::1", "[2001:db8::1]"),
    ("[2001:DB8:0::1]", "[2001:db8::1]"),
    ("[2001:db8::1]:443", "[2001:db8::1]:443"),
    ("::ffff:192.0.2.1", "192.0.2.1"),
    ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
    ("192.0.2.1:_port", "192.0.2.1"),
    ("unknown", None),
    ("_hidden", None),
    ("localhost", None),
    ("", None),
    ("192.0.2", None),
    ("192.0.2.01", None),
    ("192.0.2.1:65536", None),
    ("192.0.2.1:", None),
    ("[192.0.2.1]", None),
    ("[::1", None),
    ("[::1]80", None),
    ("::1]", None),
    ("fe80::1%eth0", None),
    ("1.2.3.4\x00", None),
    ("192.0.2.1 ", None),
    ("٣.1.1.1", None),
    ("1" * 3000, None),
    (":" * 3000, None),
]


@looped(("node", "address"), NODES)
def test_addresses(node, address):
    assert read_forwarded(f'for="{node}"') == [Hop(address)]
    if node.strip(" "):
        stripped = "192.0.2.1" if node == "192.0.2.1 " else address
        assert read_x_forwarded_for(node) == [Hop(stripped)]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("", []),
        (" , ,", []),
        ("192.0.2.1", ["192.0.2.1"]),
        ("192.0.2.1, 10.0.0.1,10.0.0.2", ["192.0.2.1", "10.0.0.1", "10.0.0.2"]),
        ('"[2001:db8::1]:5", 10.0.0.1', ["[2001:db8::1]:5", "10.0.0.1"]),
        ('a"b, ",192.0.2.1', [None, None, "192.0.2.1"]),
        ("1.2.3.4 5.6.7.8, 192.0.2.1", [None, "192.0.2.1"]),
        ("\x00<script>, 192.0.2.1", [None, "192.0.2.1"]),
    ],
)
def test_x_forwarded_for(value, addresses):
    assert read_x_forwarded_for(value) == [Hop(address) for address in addresses]


def test_of_many_hops_the_last_count():
    hops = read_x_forwarded_for(",".join(f"10.0.{n // 250}.{n % 250}" for n in range(5000)))
    assert hops[-1] == Hop("10.0.19.249")
    assert hops[0] == NOBODY
    assert len(hops) <= 33


@looped(
    ("value", "hops"),
    [
        ("", []),
        (" , ;, ", []),
        ('for="_gazonk"', [NOBODY]),
        ('For="[2001:db8:cafe::17]:4711"', [Hop("[2001:db8:cafe::17]:4711")]),
        ("for=192.0.2.60;proto=HTTPS;by=203.0.113.43", [Hop("192.0.2.60", "https")]),
        ("for=192.0.2.43, for=198.51.100.17", [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        ("proto=http", [Hop(None, "http")]),
        ("for=192.0.2.1;", [Hop("192.0.2.1")]),
        (
            ';for=192.0.2.1 ; host="a\\"b,c;d" , for=192.0.2.2',
            [Hop("192.0.2.1", host='a"b,c;d'), Hop("192.0.2.2")],
        ),
        ('for="192.0.2.\\1"', [Hop("192.0.2.1")]),
        ("for=unknown", [NOBODY]),
        # What is malformed anywhere is not read at all.
        ('for="192.0.2.1', None),
        ('for=192.0.2.1;x=", for=192.0.2.2', None),
        ('for="192.0.2.1\\", for=192.0.2.2', None),
        ("for = 192.0.2.1", None),
        ("for=[::1]", None),
        ("for=192.0.2.1 for=192.0.2.2", None),
        ("for=192.0.2.1;for=192.0.2.2", None),
        ("for", None),
        ("for=", None),
        ("=1", None),
        ("192.0.2.1", None),
        ('for="192.0.2.1"x', None),
        (f"for=192.0.2.1;x={'y' * 5000}", None),
    ],
)
def test_forwarded(value, hops):
    assert read_forwarded(value) == hops


@quick
@given(st.text(st.characters(codec="latin-1"), max_size=100), st.sampled_from([0, 1]))
def test_what_a_client_has_sent_before_changes_nothing(before, quoted):
    assert read_x_forwarded_for(f"{before}, 192.0.2.1")[-1] == Hop("192.0.2.1")
    node = '"[2001:db8::1]"' if quoted else "192.0.2.1"
    found = read_forwarded(f"{before}, for={node};proto=https")
    assert found is None or found[-1] == Hop("[2001:db8::1]" if quoted else "192.0.2.1", "https")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.1:80", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("", ""),
        ("/run/socket", "/run/socket"),
    ],
)
def test_the_host_of_an_address(address, host):
    assert host_of(address) == host


# -- who is the client -----------------------------------------------------

CHAIN = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48", "unix"])


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1:5000", True),
        ("127.0.0.2:5000", False),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("[2001:db8:1:2::3]:80", True),
        ("[2001:db8:2::3]:80", False),
        ("[::ffff:10.1.1.1]:80", True),  # as an IPv6 socket shows an IPv4 peer
        ("", True),  # a Unix socket
        ("/run/client", True),
        ("unix:", True),
        ("unix:/run/client", True),
    ],
)
def test_which_addresses_are_trusted(address, trusted):
    assert CHAIN.trust(address) is trusted
    assert not Proxies().trust(address)
    unix = not address[-1:].isdigit() and "." not in address
    assert Proxies(["unix"]).trust(address) is unix
    assert not Proxies(["192.0.2.1"]).trust(address)


@pytest.mark.parametrize(
    ("entry", "address", "trusted"),
    [
        ("::ffff:10.0.0.1", "10.0.0.1:80", True),
        ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:80", True),
        ("::ffff:10.0.0.1", "10.0.0.2:80", False),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.0.0.1", False),
        ("::ffff:0:0/96", "192.0.2.1", True),
        ("::ffff:0:0/96", "2001:db8::1", False),
        ("::/0", "[2001:db8::1]:80", True),
    ],
)
def test_an_ipv4_network_written_within_ipv6(entry, address, trusted):
    assert Proxies([entry]).trust(address) is trusted


@pytest.mark.parametrize(
    ("value", "address", "known"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("6.6.6.6, 192.0.2.1", "192.0.2.1", True),  # the rightmost that is not trusted
        ("6.6.6.6, 192.0.2.1, 10.0.0.1, 10.0.0.2", "192.0.2.1", True),
        ("unknown, 192.0.2.1, 10.0.0.1", "192.0.2.1", True),
        ("10.0.0.9, 10.0.0.1", "10.0.0.9", True),  # all are: the first one
        ("2001:db8:1::5, [2001:db8:1::6]:80", "[2001:db8:1::5]", True),
        ("", "127.0.0.1:1", True),
        ("unknown", "127.0.0.1:1", False),
        ("192.0.2.1, <script>", "127.0.0.1:1", False),
        ("192.0.2.1, nobody, 10.0.0.1", "10.0.0.1", False),
        (", ".join(["10.0.0.1"] * 100), "10.0.0.1", False),
    ],
)
def test_the_client_of_a_chain(value, address, known):
    headers = {"x-forwarded-for": value, "forwarded": "for=6.6.6.6"}
    assert CHAIN.client_of("127.0.0.1:1", headers) == Client(address, False, known)


@pytest.mark.parametrize(
    ("addresses", "schemes", "secure"),
    [
        ("192.0.2.1", "https", True),
        ("192.0.2.1", "HTTPS ", True),
        ("192.0.2.1", "http", False),
        ("192.0.2.1", None, False),
        ("192.0.2.1", "wss", False),
        (None, "https", True),
        ("192.0.2.1", "https, http", False),  # the proxy's own word, the first is the client's
        ("192.0.2.1, 10.0.0.1", "https", True),  # the first proxy has ended the TLS
        ("192.0.2.1, 10.0.0.1", "https, http", True),
        ("192.0.2.1, 10.0.0.1", "https, http, http", False),
    ],
)
def test_what_the_client_has_spoken(addresses, schemes, secure):
    headers = {"x-forwarded-for": addresses, "x-forwarded-proto": schemes}
    headers = {name: value for name, value in headers.items() if value is not None}
    assert CHAIN.client_of("127.0.0.1:1", headers).secure is secure


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.1;proto=https", Client("192.0.2.1", True)),
        ("for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", Client("192.0.2.1", True)),
        ("for=6.6.6.6;proto=https, for=192.0.2.1;proto=http", Client("192.0.2.1", False)),
        ("for=192.0.2.1", Client("192.0.2.1", False)),
        ('for="', Client("127.0.0.1:1", False, False)),
        ("for=unknown", Client("127.0.0.1:1", False, False)),
        ("", Client("127.0.0.1:1", False)),
        (None, Client("127.0.0.1:1", False)),
    ],
)
def test_forwarded_in_place_of_the_other(value, client):
    proxies = Proxies(["127.0.0.1", "10.0.0.0/8"], header="forwarded")
    headers = {"x-forwarded-for": "6.6.6.6", "x-forwarded-proto": "https"}
    if value is not None:
        headers["forwarded"] = value
    assert proxies.client_of("127.0.0.1:1", headers) == client


# -- a server behind a proxy ---------------------------------------------------

TRUSTED = {"trusted_proxies": ["127.0.0.1"]}
UNTRUSTED = {"trusted_proxies": ["192.0.2.1"]}


def who(server, *lines):
    return ask(server, head("/who", *lines)).body.decode()


def test_handlers_and_pages_see_the_client():
    with serving(routes=telling_routes(), **TRUSTED) as server:
        assert who(server, "X-Forwarded-For: 192.0.2.1") == "192.0.2.1 False"
        lines = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: [2001:db8::1]:5")
        assert who(server, *lines, "X-Forwarded-Proto: https") == "[2001:db8::1]:5 True"
        with raw_websocket(server, "/who", "X-Forwarded-For: 192.0.2.1") as client:
            own = "{}:{}".format(*client.address)
            assert client.receive()[1].decode() == f"192.0.2.1 {own}"


@pytest.mark.abuse(85)
@pytest.mark.parametrize("options", [{}, UNTRUSTED, {**TRUSTED, "forwarded_header": "forwarded"}])
def test_who_is_not_trusted_is_not_believed(options, log):
    spoofed = ("X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "CF-Connecting-IP: 6.6.6.6")
    with serving(routes=telling_routes(), **options) as server:
        with raw_websocket(server, "/who", *spoofed) as client:
            own = "{}:{}".format(*client.address)
            assert client.receive()[1].decode() == f"{own} {own}"
        assert who(server, *spoofed, "X-Forwarded-Proto: http").startswith("127.0.0.1:")
    assert not any("6.6.6.6" in text for text in log.texts())


def test_a_scheme_of_who_is_not_trusted_is_not_believed():
    for options in ({}, UNTRUSTED):
        with serving(routes=telling_routes(), **options) as server:
            said = ("X-Forwarded-Proto: https", "Forwarded: for=6.6.6.6;proto=https")
            assert who(server, *said).endswith(" False")


def test_the_log_sees_the_client(log):
    with serving(routes=telling_routes(), **TRUSTED) as server:
        assert status_of(server, head("/no", "X-Forwarded-For: 192.0.2.1")) == 404
        assert log.wait_for(" 404").message.startswith("192.0.2.1 GET '/no' 404: ")
        assert status_of(server, head("/echo", "X-Forwarded-For: 192.0.2.1")) == 426
        assert log.wait_for(" 426").message.startswith("192.0.2.1 ")
        with raw_websocket(server, "/echo", "X-Forwarded-For: 192.0.2.1") as client:
            client.send(8, b"\x03\xe8")
            assert client.close_code() == 1000
        log.wait_for("192.0.2.1 '/echo' closed, code 1000")


def test_what_cannot_be_read_is_told_of_rarely(log):
    with serving(routes=telling_routes(), **TRUSTED) as server:
        for value in ("<script>", "unknown", "6.6.6.6, nobody\x80"):
            assert who(server, f"X-Forwarded-For: {value}").startswith("127.0.0.1:")
    told = [text for text in log.texts(30) if "ignored what the trusted proxy" in text]
    assert len(told) == 1
    assert not any("script" in text or "6.6.6.6" in text for text in log.texts())


# -- what depends on it ----------------------------------------------------


def opened(server, stack, client):
    """The status of an upgrade for a client; the connection stays open."""
    sock = stack.enter_context(dial(server))
    sock.sendall(upgrade("/echo", f"X-Forwarded-For: {client}"))
    return int(read_until(sock, b"\r\n\r\n")[9:12])


def test_the_limit_of_an_address_is_that_of_the_client():
    options = {**TRUSTED, "max_connections_per_address": 2}
    with serving(routes=telling_routes(), **options) as server, contextlib.ExitStack() as stack:
        for client in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "[2001:db8::2]:5"):
            assert opened(server, stack, client) == 101
        assert opened(server, stack, "6.6.6.6, 192.0.2.1:99") == 101
        assert opened(server, stack, "192.0.2.1") == 503
        assert opened(server, stack, "7.7.7.7, 192.0.2.1") == 503
        assert opened(server, stack, "2001:db8::ffff") == 503  # of the same /64
        assert opened(server, stack, "192.0.2.3") == 101
    until(lambda: not server._acceptor._callers.limits._sockets)


def test_all_whose_address_cannot_be_read_are_one():
    """Nobody gets past the limits by a header that nobody can read."""
    options = {**TRUSTED, "max_connections_per_address": 1}
    with serving(routes=telling_routes(), **options) as server, contextlib.ExitStack() as stack:
        assert opened(server, stack, "unknown") == 101
        assert opened(server, stack, '"') == 503
        assert opened(server, stack, "192.0.2.1") == 101
        assert status_of(server, head("/who")) == 200  # the proxy's own health check


def test_spare_connections_of_a_proxy_are_its_own():
    options = {**TRUSTED, "max_connections_per_address": 1, "handshake_timeout": 30}
    with serving(routes=telling_routes(), **options) as server, contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(dial(server))
        assert opened(server, stack, "192.0.2.1") == 101


def test_a_client_has_no_more_spare_connections_behind_a_proxy():
    """Refusals that are not read: each is a connection of its client's."""
    options = {**TRUSTED, "max_connections_per_address": 1}
    with serving(routes=telling_routes(), **options) as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dial(server)) for _ in range(10)]
        answers = []
        for sock in socks:
            sock.sendall(head("/nothing", "X-Forwarded-For: 192.0.2.1"))
            answers.append(read_until(sock, b"\r\n\r\n")[9:12])
        assert answers == [b"404"] * 9 + [b"503"]
        assert who(server, "X-Forwarded-For: 192.0.2.2") == "192.0.2.2 False"


@pytest.mark.parametrize(
    ("scheme", "origin", "status"),
    [
        ("https", "https://localhost", 101),
        ("https", "http://localhost", 403),  # a page that may have been changed on its way
        ("http", "http://localhost", 101),
        ("http", "https://localhost", 101),
        (None, "http://localhost", 101),
        ("https", "https://evil.example", 403),
    ],
)
def test_the_origin_of_a_page_that_came_by_tls_is_one_of_https(scheme, origin, status):
    lines = [f"Origin: {origin}"] + ([f"X-Forwarded-Proto: {scheme}"] if scheme else [])
    request = upgrade("/echo", *lines)
    with serving(routes=telling_routes(), **TRUSTED) as server, dial(server) as sock:
        sock.sendall(request)
        assert int(read_until(sock, b"\r\n\r\n")[9:12]) == status
    if status == 403 and "evil" not in origin:
        with serving(routes=telling_routes(), **UNTRUSTED) as server, dial(server) as sock:
            sock.sendall(request)  # a stranger's word changes nothing
            assert int(read_until(sock, b"\r\n\r\n")[9:12]) == 101


def test_a_refused_body_is_answered_for_the_client(log):
    request = head("/who", "X-Forwarded-For: 192.0.2.1", "Content-Length: 1000000")
    with serving(routes=telling_routes(), **TRUSTED) as server, dial(server) as sock:
        sock.sendall(request)
        assert Answer(read_all(sock)).status == 413
    assert log.wait_for(" 413").message.startswith("192.0.2.1 GET '/who' 413")
