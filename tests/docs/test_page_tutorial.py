"""The tutorial, from its first file to its last: servers, terminals, a browser, a guest, a test."""

import contextlib
import os
import re
import sys

import pytest

from code_blocks import blocks_of
from pages import chromium
from processes import Process, python_environment
from programs import free_port, runs_once
from snippets import program

pytestmark = [
    runs_once,
    pytest.mark.processes,
    pytest.mark.skipif(os.name == "nt", reason="commands are ended as on POSIX"),
]

PAGE = "docs/tutorial.md"
NAMED = re.compile(r"(?:#|<!--) ([\w/.]+\.(?:py|html))")


@pytest.fixture(scope="module")
def port():
    """In place of 8080, which another program of this machine may have."""
    return free_port()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, port):
    """All its files, each named by its first line."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "page").mkdir()
    for block in blocks_of(PAGE):
        if found := NAMED.match(block.text):
            (folder / found[1]).write_text(block.text.replace("8080", str(port)))
    return folder


@pytest.fixture
def start(folder):
    """Start one of the files, as a terminal does."""

    def started(*command):
        return Process.python("-u", *command, cwd=folder)

    return started


@pytest.fixture
def chat(start, port):
    """The server of the chat, once it listens."""
    with serving(start, "chat.py") as process:
        yield process


def serving(start, name):
    process = start(
        "-c",
        "import runpy, functools, scriptling_ws as ws\n"
        "ws.serve = functools.partial(ws.serve, ready=lambda _: print('ready', flush=True))\n"
        f"runpy.run_path({name!r}, run_name='__main__')",
    )
    process.line_with("ready")
    return process


@pytest.mark.blocks(
    f"{PAGE}#a-server-that-answers 1",
    f"{PAGE}#a-server-that-answers 2",
)
def test_an_echo(start):
    output = next(block.text for block in blocks_of(PAGE) if block.text.startswith("you said"))
    with serving(start, "echo.py"), start("hello.py") as client:
        assert client.finish() == (output.splitlines(), 0)


@pytest.mark.blocks("docs/index.md#scriptling-ws 2", "docs/index.md#scriptling-ws 3")
def test_the_first_page(blocks):
    client, server = blocks
    with (
        program(server.changed({", port=8080": ""})) as (_, url),
        Process.python("-c", client.changed({"ws://127.0.0.1:8080": url})) as process,
    ):
        assert process.finish() == (["hello"], 0)


@pytest.mark.blocks(f"{PAGE}#a-room-for-all", f"{PAGE}#two-terminals")
def test_two_terminals(chat, start):
    with start("talk.py", "ann") as ann:
        assert ann.line() == "* ann is here"
        with start("talk.py", "bob") as bob:
            assert bob.line() == ann.line() == "* bob is here"
            bob.tell("good evening")
            assert bob.line() == ann.line() == "bob: good evening"
            bob.end_input()  # Ctrl-D
            assert bob.finish()[1] == 0
        assert ann.line() == "* bob has left"


@pytest.mark.blocks(f"{PAGE}#a-browser 1")
def test_a_browser(chat, start, port):
    with (
        chromium() as browser,
        talking(start, "ann") as ann,
        asked(browser, f"http://127.0.0.1:{port}/", "Eve") as page,
    ):
        ann.line_with("* Eve is here")
        page.get_by_label("Message").fill("<b>hello</b>")
        page.keyboard.press("Enter")
        assert ann.line() == "Eve: <b>hello</b>"
        ann.tell("hi Eve")
        page.get_by_text("ann: hi Eve").wait_for()
        assert page.locator("#said p").all_inner_texts()[-2] == "Eve: <b>hello</b>"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@contextlib.contextmanager
def talking(start, name):
    """A terminal of the chat, once it has joined."""
    with start("talk.py", name) as process:
        process.line_with(f"* {name} is here")
        yield process


@contextlib.contextmanager
def asked(browser, url, name):
    """A visitor, on a phone, who gives a name when asked for it."""
    with contextlib.closing(browser.new_context(viewport={"width": 390, "height": 780})) as context:
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept(name))
        page.goto(url)
        yield page
        assert errors == []


@pytest.mark.blocks(f"{PAGE}#a-guest-that-is-a-program 1")
def test_the_dice_come_back(start):
    with start("talk.py", "nobody") as early:
        assert early.finish()[1] == 1  # there is no server yet
    with start("dice.py"):
        for _ in range(2):
            with serving(start, "chat.py") as server, talking(start, "ann") as ann:
                roll(ann)
                server.terminate()
                assert server.finish()[1] == 0


def roll(ann):
    """Ask the dice until they are there."""
    while True:
        ann.tell("roll 3d6")
        assert ann.line_with("ann: ") == "ann: roll 3d6"
        ann.tell("?")
        line = ann.line()
        while line != "ann: ?":
            if found := re.fullmatch(r"dice: (\d+) \[(\d), (\d), (\d)\]", line):
                total, *numbers = map(int, found.groups())
                assert total == sum(numbers)
                return
            line = ann.line()


@pytest.mark.blocks(f"{PAGE}#a-test 1")
def test_its_test_passes(folder):
    with Process(
        sys.executable,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_chat.py"),
        cwd=folder,
        env=python_environment(),
    ) as process:
        lines, status = process.finish()
    assert status == 0, lines
    assert "1 passed" in lines[-1]
