"""The examples of docs/streaming.md and docs/rooms.md."""

import pytest

import scriptling_ws as ws
from pairs import MIB, until
from redis_server import redis_server
from servers import TIMEOUT
from snippets import echoes, program

pytestmark = pytest.mark.once("it is about examples")


@pytest.mark.blocks("docs/streaming.md#messages-in-parts")
def test_a_file_is_uploaded(blocks, world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = bytes(range(256)) * (MIB // 256)
    (tmp_path / "large.bin").write_bytes(data)
    (block,) = blocks
    start, client, server = block.text.partition("with ws.connect")
    client, mark, server = (client + server).partition("\n\n\ndef ")
    assert mark
    exec(f"{start}\ndef {server}", {})
    exec(start + client.replace("8080", str(world.servers[0].port)), {})
    until(lambda: (tmp_path / "received.bin").stat().st_size == MIB)
    assert (tmp_path / "received.bin").read_bytes() == data
    assert capsys.readouterr().out.endswith(f"{MIB} of {MIB}\n")


@pytest.mark.blocks("docs/streaming.md#into-a-buffer")
def test_into_a_buffer(blocks):
    conn, peer = ws.pair()
    with conn, peer:
        peer.send_binary(b"in the buffer")
        names = blocks[0].run(conn=conn)
        assert names["buffer"][: names["size"]] == b"in the buffer"
        peer._begin_close(1000)


@pytest.mark.blocks("docs/rooms.md#rooms")
def test_a_room(blocks, capsys):
    client, peer = ws.pair()
    other, others_peer = ws.pair()
    ws.room("chat").join(other)
    blocks[0].run(ws=ws, client=client)
    encoded = '{"op":"hi"}'
    assert [peer.recv(TIMEOUT) for _ in range(2)] == [encoded, [1, 2]]  # left out of the first
    assert [others_peer.recv(TIMEOUT) for _ in range(3)] == ["hello", encoded, [1, 2]]
    assert capsys.readouterr().out == "2 True\n"
    assert client not in ws.room("chat")
    for one, two in ((client, peer), (other, others_peer)):
        one._begin_close(1000)
        two.close()
        one.close()


# After both examples: a server whose clients are in both rooms.
BY_REDIS = """
def handler(client):
    shared.join(client)
    room.join(client)
    client.send("in")
    for message in client:
        shared.send(message)

ws.serve(handler)
"""


@pytest.mark.blocks("docs/rooms.md#several-processes", "docs/rooms.md#while-redis-is-away")
def test_rooms_by_redis(blocks):
    with redis_server() as redis:
        first = blocks[0].changed({"redis://127.0.0.1:6379": redis.url, '"chat"': '"one"'})
        second = blocks[1].changed({'"chat"': '"other"'})
        start = f"import scriptling_ws as ws\nurl = {redis.url!r}\n"
        code = f"{start}{first}\nshared = room\n{second}{BY_REDIS}"
        with program(code) as (_, url), ws.connect(url) as conn:
            assert conn.recv(TIMEOUT) == "in"
            assert echoes(conn)
            redis.kill()
            redis.start()
            assert conn.receive_json(60) == {"event": "reload"}
