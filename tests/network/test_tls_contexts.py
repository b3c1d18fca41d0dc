"""TLS contexts are taken for what they can do: of whichever class, replaced or not."""

import socket
import ssl
import subprocess
import sys
import warnings

import pytest

from pairs import SOON, authority, tls_contexts
from processes import python_environment
from scriptling_ws import ConnectError, Server, connect
from servers import echo, serving

pytestmark = pytest.mark.once("it is about what is trusted")


class Wrapper:
    """A context that has another one, and of its methods the one that is needed."""

    def __init__(self, context):
        self._context = context

    def wrap_bio(self, incoming, outgoing, server_side=False, server_hostname=None):
        return self._context.wrap_bio(incoming, outgoing, server_side, server_hostname)


def test_a_context_of_another_class_will_do_at_both_ends():
    client, server = map(Wrapper, tls_contexts())
    with serving(echo, ssl_context=server) as running:
        url = f"wss://localhost:{running.port}"
        with connect(url, SOON, ssl_context=client) as conn:
            conn.send("through")
            assert conn.receive(SOON) == "through"


def test_a_context_is_taken_though_the_class_was_replaced_since(monkeypatch):
    class Other(ssl.SSLContext):
        pass

    client, server = tls_contexts()
    monkeypatch.setattr(ssl, "SSLContext", Other)
    assert not isinstance(client, ssl.SSLContext)
    with (
        serving(echo, ssl_context=server) as running,
        connect(f"wss://localhost:{running.port}", SOON, ssl_context=client) as conn,
    ):
        assert conn.connected()


class WrapsSockets:
    def wrap_socket(self):
        pass


class NotCallable:
    wrap_bio = None


@pytest.mark.parametrize(
    "context", [ssl.SSLContext, Wrapper, WrapsSockets(), NotCallable(), "cert.pem", b"", 1, False]
)
def test_what_is_no_context_is_a_type_error(context):
    says = r"ssl_context has to be an ssl\.SSLContext, or another object with its wrap_bio"
    with pytest.raises(TypeError, match=says):
        connect("wss://localhost:1", ssl_context=context)
    with pytest.raises(TypeError, match=says):
        Server(echo, port=0, ssl_context=context).close()


def test_a_clients_context_is_refused_for_a_server_by_its_protocol_whatever_its_class(monkeypatch):
    client = ssl.create_default_context()

    class Other(ssl.SSLContext):
        pass

    monkeypatch.setattr(ssl, "SSLContext", Other)
    with pytest.raises(ValueError, match="is a client's"):
        Server(echo, port=0, ssl_context=client).close()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_servers_context_is_refused_for_a_client_before_anything_else(wrapped, monkeypatch):
    def look_up(*_, **__):
        raise AssertionError("nothing is looked up")

    class Other(ssl.SSLContext):
        pass

    server = tls_contexts()[1]
    if wrapped:
        monkeypatch.setattr(ssl, "SSLContext", Other)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(
        ValueError, match=r"is a server's: make it with ssl\.create_default_context"
    ):
        connect("wss://no-such-host.invalid", ssl_context=server)


@pytest.mark.parametrize("protocol", ["PROTOCOL_TLS", "PROTOCOL_TLSv1_2"])
def test_a_context_for_both_sides_will_do_at_each(protocol):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client, server = (ssl.SSLContext(getattr(ssl, protocol)) for _ in range(2))
    authority().issue_cert("localhost").configure_cert(server)
    with serving(echo, ssl_context=server) as running:
        url = f"wss://localhost:{running.port}"
        with connect(url, SOON, ssl_context=client) as conn:
            conn.send("through")
            assert conn.receive(SOON) == "through"


def test_a_certificate_is_for_its_alternative_names_alone(monkeypatch, tmp_path):
    """RFC 9110 section 4.3.4: by default the subject's common name is no host name."""
    trust = tmp_path / "trust.pem"
    authority().cert_pem.write_to_path(trust)
    monkeypatch.setenv("SSL_CERT_FILE", str(trust))
    _, good = tls_contexts()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("mail@localhost", common_name="localhost").configure_cert(old)
    with serving(echo, ssl_context=good) as server:
        connect(f"wss://localhost:{server.port}", SOON).close()
    with serving(echo, ssl_context=old) as server:
        url = f"wss://localhost:{server.port}"
        with pytest.raises(ConnectError) as caught:
            connect(url, SOON)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        own = ssl.create_default_context()  # the caller's: as the caller has made it
        own.hostname_checks_common_name = True
        connect(url, SOON, ssl_context=own).close()


# In a process of its own, since it replaces the class for all.
TRUSTSTORE = """
import ssl, sys
trust, certificate, when = sys.argv[1:]

def contexts():
    client = ssl.create_default_context(cafile=trust)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return client, server

before = contexts()
import truststore
if when == "before":
    truststore.inject_into_ssl()
import scriptling_ws as ws
ws.connect, ws.Server
if when == "after":
    truststore.inject_into_ssl()
after = contexts()
assert type(before[0]) is not type(after[0])
for server_context in (before[1], after[1]):
    with ws.Server(lambda client: client.receive(), port=0, ssl_context=server_context) as server:
        for client_context in (before[0], after[0], None):
            url = f"wss://localhost:{server.port}"
            with ws.connect(url, ssl_context=client_context) as conn:
                conn.send("x")
print("all")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_truststore_may_be_injected_before_the_import_or_after_it(tmp_path, when):
    pytest.importorskip("truststore")
    trust, certificate = tmp_path / "trust.pem", tmp_path / "certificate.pem"
    authority().cert_pem.write_to_path(str(trust))
    authority().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    done = subprocess.run(
        [sys.executable, "-c", TRUSTSTORE, trust, certificate, when],
        env=python_environment(SSL_CERT_FILE=str(trust)),  # for the context that connect() makes
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "all", done.stderr
