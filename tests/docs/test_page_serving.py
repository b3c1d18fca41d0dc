"""docs/serving.md: its servers serve."""

import http.client
import re

import pytest

import scriptling_ws as ws
from code_blocks import blocks_at
from pairs import until
from processes import Process
from snippets import program

pytestmark = pytest.mark.once("the examples do what they say; how, other tests have")

TIMEOUT = 20


@pytest.mark.blocks("docs/serving.md#from-python")
def test_from_python(blocks):
    served, embedded = blocks
    code = served.changed({", port=8080": ""})
    with program(code) as (_, url), ws.connect(url, binary_type=bytes) as conn:
        conn.send("hello")
        assert conn.receive(TIMEOUT) == "hello"
        conn.send_binary(b"hello")
        assert conn.receive(TIMEOUT) == b"hello"
    with Process.python("-c", embedded.text) as process:
        assert process.finish() == (["hello"], 0)


@pytest.mark.blocks("docs/serving.md#from-a-setup-script")
def test_from_a_setup_script(blocks, tmp_path):
    (setup,) = blocks
    (tmp_path / "setup.py").write_text(setup.text, encoding="utf-8")
    (served, _) = blocks_at("docs/serving.md#from-python")
    handler = served.text.rpartition("\n\n\n")[0].replace("def echo", "def chat_handler")
    (tmp_path / "handlers.py").write_text(handler)
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "index.html").write_text("the page")
    command = re.search(r"started with: scriptling-ws (.+)", setup.text)[1].replace("8080", "0")
    with Process.python("-m", "scriptling_ws", *command.split(), cwd=tmp_path) as server:
        url = re.search(r"ws://\S+", server.line_with("ws://"))[0]
        with ws.connect(f"{url}/chat") as conn:
            conn.send("hello")
            assert conn.receive(TIMEOUT) == "hello"
        page = http.client.HTTPConnection(url.removeprefix("ws://"), timeout=TIMEOUT)
        page.request("GET", "/")
        assert page.getresponse().read() == b"the page"
        page.close()


@pytest.mark.blocks("docs/serving.md#to-many-at-once")
def test_to_many_at_once(blocks):
    with program(blocks[0].text) as (_, url), ws.connect(url) as one, ws.connect(url) as two:
        until(lambda: one.send("hello") or two.receive(0) == "hello")
        assert one.receive(0) is None
