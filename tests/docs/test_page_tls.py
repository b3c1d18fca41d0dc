"""The commands of docs/tls.md make certificates, and its contexts take them."""

import shlex
import shutil
import subprocess

import pytest

import scriptling_ws as ws
from code_blocks import blocks_at
from programs import find
from servers import TIMEOUT, echo, serving
from snippets import echoes

pytestmark = pytest.mark.once("it is about examples")

AUTHORITY = "docs/tls.md#an-authority-of-ones-own"
CLIENTS = "docs/tls.md#client-certificates"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with what the page's commands make."""
    find("openssl")
    folder = tmp_path_factory.mktemp("tls")
    for block in (*blocks_at(f"{AUTHORITY} 1"), *blocks_at(f"{CLIENTS} 1")):
        for line in block.text.replace("\\\n", " ").splitlines():
            command = shlex.split(line)
            command[0] = shutil.which(command[0])
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(autouse=True)
def here(made, monkeypatch):
    """Where the examples find their files."""
    monkeypatch.chdir(made)


def url_of(server):
    return f"wss://localhost:{server.port}/"


@pytest.mark.blocks("docs/tls.md#serving-wss 2", f"{AUTHORITY} 2")
def test_an_authority_of_ones_own(blocks, world, capsys, log):
    serve, connect = blocks
    serve.run({'host="0.0.0.0", ': ""})
    (server,) = world.servers
    connect.run({"8443": server.port})
    assert capsys.readouterr().out == "hello\n"
    with pytest.raises(ws.ConnectError, match="certificate verify failed"):
        ws.connect(url_of(server))
    context = connect.run({"8443": server.port})["context"]
    with pytest.raises(ws.ConnectError, match="certificate is not valid for"):
        ws.connect(url_of(server), ssl_context=context, server_hostname="example.com")
    log.wait_for("TLS failed")
    with pytest.raises(ws.HandshakeError) as refused:
        ws.connect(f"ws://127.0.0.1:{server.port}/")
    assert refused.value.status == 400
    log.wait_for("this port speaks TLS alone")
    with serving(echo) as plain, pytest.raises(ws.ConnectError, match="does not speak TLS"):
        ws.connect(f"wss://127.0.0.1:{plain.port}/", ssl_context=context)
    log.wait_for("this port does not speak TLS")


@pytest.mark.blocks(f"{CLIENTS} 2", f"{CLIENTS} 3", f"{CLIENTS} 4")
def test_client_certificates(blocks, world, log):
    import ssl

    of_server, of_client = (block.run(ssl=ssl)["context"] for block in blocks[:2])

    def greet(client):
        client.send(client.state.user)
        echo(client)

    world.serve(greet, ssl_context=of_server, authorize=blocks[2].run()["authorize"])
    (server,) = world.servers
    with ws.connect(url_of(server), ssl_context=of_client) as conn:
        assert conn.receive(TIMEOUT) == "robot 7"
        assert echoes(conn)
    stranger = ssl.create_default_context(cafile="authority.pem")
    with pytest.raises(ws.ConnectError):
        ws.connect(url_of(server), TIMEOUT, ssl_context=stranger)
    log.wait_for("TLS failed")
