"""The commands of all pages: each line is run, as far as a test may change the machine.

- `scriptling-ws --server` serves what the test has written, on a free port, until SIGTERM.
- `make` says what it would do (`-n`), `pip install` is held against the extras that there are.
- A program of examples/ or of the tutorial has tests of its own; here it says what it takes.
- Others, which run where a service is run and not here, are named: `elsewhere`.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

import code_blocks as _blocks
import scriptling_ws as ws
from looped import looped
from pairs import authority, tls_contexts
from places import REPOSITORY, TESTS
from processes import Process, python_environment
from programs import find, runs_once
from scriptling_ws import Routes
from servers import serving

pytestmark = [
    runs_once,
    pytest.mark.processes,
    pytest.mark.skipif(os.name == "nt", reason="commands are ended as on POSIX"),
]

SETUP = """
import scriptling.runtime as runtime

def echo(client):
    for message in client:
        client.send(message)

runtime.http.websocket("/echo", echo)
"""
# Where a service runs: tests/deploy has what it does there.
SHELL = re.compile(r"[|<>]|\$\(|connect ")
TUTORIAL = {"echo", "hello", "chat", "talk", "dice", "test_chat"}
ELSEWHERE = {"docker", "systemctl", "nginx", "haproxy", "caddy", "sudo", "sysctl", "cp"}


def lines_of(block):
    """The commands of a block: comments are none, and a line may go on."""
    text = block.text.replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, marks=pytest.mark.blocks(block), id=block.id)
        for block in _blocks.all_blocks()
        if block.language == "sh"
    ],
)
def test_commands(block, tmp_path):
    for line in lines_of(block):
        if SHELL.search(line) or ("/chat" in line and "ws://" in line):
            shell(line, tmp_path)
            continue
        words = shlex.split(line, comments=True)
        words[0] = words[0].removeprefix("venv/bin/")
        while re.fullmatch(r"\w+=\S*", words[0]):  # of the environment
            del words[0]
        KINDS.get(words[0], elsewhere)(words, tmp_path)


def shell(line, folder):
    """A line of a client, as a shell runs it: its URL is that of a server that ends by itself."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "scriptling-ws").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m scriptling_ws "$@"\n'
    )
    (programs / "scriptling-ws").chmod(0o755)
    (folder / "photo.jpg").write_bytes(b"a photo")
    (folder / ".zsh" / "completions").mkdir(parents=True, exist_ok=True)
    with serving(routes=ENDS) as server:
        line = re.sub(r"wss?://[\w.:]+", server.url, line)
        env = {
            **python_environment(),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
        }
        result = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            timeout=100,
            capture_output=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    if "backup" in line:
        assert (folder / "backup.tar").read_bytes() == b"a backup"
    if "feed" in line:
        assert result.stdout == b"1.1\n"


def answers(client):
    """Each message back, until the client has no more."""
    for message in client:
        client.send(message)


ENDS = Routes()
ENDS.websocket("/echo", answers)
ENDS.websocket("/chat", answers)
ENDS.websocket("/feed", lambda client: client.send({"price": 1.1}))
ENDS.websocket("/upload", lambda client: client.send(str(len(client.receive(10)))))
ENDS.websocket("/backup", lambda client: client.send_binary(b"a backup"))


def elsewhere(words, folder):
    """What is no command of this package."""
    assert words[0] in ELSEWHERE, f"no test runs {words}"


def make(words, folder):
    """A target that there is, with what it runs."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = [*words[:1], "-n", *words[1:]]
    result = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr


def pip(words, folder):
    """Something to install: this package and its extras, or a dependency that it names."""
    if words[:3] in (["python", "-m", "venv"], ["python3", "-m", "venv"]):
        return
    *_, wanted = words
    name, extras = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])?(?:==[\d.]+)?", wanted).groups()
    known = {"scriptling-ws", "pytest"}
    assert name in known
    for extra in filter(None, (extras or "").split(",")):
        assert extra in metadata.metadata("scriptling-ws").get_all("Provides-Extra")


def python(words, folder):
    """A program of the repository."""
    if words[1].removesuffix(".py") in TUTORIAL:
        return None
    if words[1] == "-m":
        return {
            "pip": pip,
            "venv": pip,
            "pytest": in_tutorial,
            "bench": help_of,
            "bench.publish": help_of,
            "bench.worker": help_of,
        }[words[2]](words, folder)
    return help_of(words, folder)


def in_tutorial(words, folder):
    """What tests/docs/test_page_tutorial.py runs."""
    assert words[-1].removesuffix(".py") in TUTORIAL


def openssl(words, folder):
    """It makes what the lines below it need: tests/docs/test_page_tls.py has all of them."""
    find("openssl")
    if "-CA" not in words:
        subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)


def help_of(words, folder):
    """A program that says what it takes: each option of the line is one of these."""
    name = words[3:] if words[1] == "-m" else words[2:]
    start = words[1:3] if words[1] == "-m" else words[1:2]
    with Process.python(*start, "--help", cwd=REPOSITORY) as process:
        lines, status = process.finish()
    assert status == 0
    for option in (word for word in name if word.startswith("--")):
        assert option in "\n".join(lines), f"{start} has no {option}"


def command(words, folder):
    """The package's own command."""
    if "--run" in words:  # tests/test_examples*.py run them
        words = [word for word in words if word != "--run"]
    if "--copy" in words:
        words = [*words[:-1], str(folder)]
    if "--server" not in words and "--fd" not in words and "setup.py" not in words[-1]:
        with Process.python("-m", "scriptling_ws", *words[1:]) as process:
            assert process.finish()[1] == 0
        return
    (folder / "setup.py").write_text(SETUP)
    given = []
    for word in words[1:]:
        word = word.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        word = re.sub(r":\d+$", ":0", word)
        word = re.sub(r"^/(\S+/)?setup\.py$", "setup.py", word)
        given.append(re.sub(r"^(unix:)?/(?:run|var/log)/", rf"\g<1>{folder}/", word))
    example = given[-1].startswith("examples/")
    hosts = [word.partition("=")[2] for word in given if word.startswith("allowed_hosts=")]
    headers = {"Host": hosts[0]} if hosts else {}
    where = REPOSITORY if example else folder
    if "--tls-cert" in given:
        certificate = authority().issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "server.key")
        certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    with Process.python("-m", "scriptling_ws", *given, cwd=where) as process:
        found = re.search(r"wss?://127\.0\.0\.1:\d+", process.line_with("listening on"))
        if not example:
            options = {"headers": headers}
            if found[0].startswith("wss:"):
                options["ssl_context"] = tls_contexts()[0]
            with ws.connect(f"{found[0]}/echo", **options) as conn:
                conn.send("hello")
                assert conn.recv(10) == "hello"
        process.terminate()
        assert process.finish()[1] == 0


KINDS = {
    "make": make,
    "openssl": openssl,
    "pip": pip,
    "python": python,
    "python3": python,
    "scriptling-ws": command,
}


@looped("page", _blocks.PAGES)
def test_every_block_says_its_language(page):
    for block in _blocks.blocks_of(page):
        assert block.language in LANGUAGES, f"{page}, line {block.line}: {block.language!r}"


LANGUAGES = {
    *("python", "sh", "text", "javascript", "html"),
    *("nginx", "haproxy", "caddyfile", "ini", "promql", "dockerfile"),
}


def test_every_block_is_run(request):
    """By a test with its mark: where all files that have such tests are collected."""
    cases = request.config.pluginmanager.get_plugin("code-blocks")
    files = {TESTS / "test_readme.py", *(TESTS / "docs").glob("test_*.py")}
    if not files <= cases.files:
        pytest.skip("a run of tests/docs and tests/test_readme.py tells")
    assert sorted(set(cases.all()) - cases.tested) == []


@looped("page", _blocks.PAGES)
def test_code_is_fenced(page):
    """What is indented is a list's, or a table's: code that is only indented says no language."""
    text = _blocks.FENCE.sub("", _blocks.read(page))
    for part in re.split(r"\n\n+", text):
        if part.startswith("    "):
            before = text[: text.index(part)].rstrip().rpartition("\n\n")[2]
            assert re.match(r" *([-*]|\d+\.) ", before), f"{page}: {part.splitlines()[0]!r}"
