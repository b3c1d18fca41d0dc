"""`scriptling-ws examples`: shown, copied and run; and that a wheel has them."""

import importlib.metadata
import importlib.util
import re
import signal
import subprocess
import sys

import pytest

import scriptling_ws as ws
from places import REPOSITORY
from processes import Process
from scriptling_ws import __main__ as cli
from scriptling_ws._command import examples

pytestmark = pytest.mark.processes

EXAMPLES = next(path for path in examples._HOMES if path.is_dir())
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def test_all_are_listed(capsys):
    assert cli.main(["examples"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split(None, 1) for line in lines if line.startswith("  ")]
    assert [name for name, _ in listed] == NAMES
    assert all(len(words) > 20 for _, words in listed)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_shown_with_how_it_is_started(capsys, name):
    assert cli.main(["examples", name]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"(python|scriptling-ws --server :8080) {EXAMPLES / name}/\w+\.py", shown)
    files = [path for path in (EXAMPLES / name).rglob("*") if path.is_file()]
    for file in files:
        assert (f"{file}\n" in shown) == ("__pycache__" not in file.parts)


def test_a_file_of_one(capsys):
    for name in ("echo/client.py", "echo/client"):
        assert cli.main(["examples", name]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"{EXAMPLES / 'echo' / 'client.py'}",
            f"    python {EXAMPLES / 'echo' / 'client.py'} [HOST] [PORT]",
        ]


def test_copies(capsys, tmp_path):
    assert cli.main(["examples", "chat", "--copy", str(tmp_path / "own")]) == 0
    copied = tmp_path / "own" / "chat"
    assert capsys.readouterr().out == f"{copied}\n"
    assert (copied / "static" / "chat.js").read_bytes() == (
        (EXAMPLES / "chat" / "static" / "chat.js").read_bytes()
    )
    assert not list(copied.rglob("__pycache__"))
    assert cli.main(["examples", "echo/client", "--copy", str(tmp_path)]) == 0
    assert (tmp_path / "client.py").is_file()
    with pytest.raises(SystemExit) as ended:
        cli.main(["examples", "--copy", str(tmp_path / "own")])
    assert ended.value.code == 2
    assert "is there already: it is left as it is" in capsys.readouterr().err
    assert cli.main(["examples", "--copy", str(tmp_path / "all")]) == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == NAMES


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nothing"], "there is no example 'nothing': there are bottle, chat"),
        (["echo/nothing"], "there is no 'nothing' in echo: there are server.py, client.py"),
        (["--run"], "name the example to run: bottle, chat"),
        (["chat/handlers", "--run"], "handlers.py is a part of the example"),
        (["chat/static/chat.js", "--run"], "chat.js is no program"),
        (["echo", "--copy", "/dev/null"], "cannot write"),
    ],
)
def test_what_the_user_can_put_right(capsys, arguments, text):
    with pytest.raises(SystemExit) as ended:
        cli.main(["examples", *arguments])
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def test_an_installation_without_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(examples, "_HOMES", (tmp_path / "nowhere",))
    with pytest.raises(SystemExit):
        cli.main(["examples"])
    assert "this installation has no examples" in capsys.readouterr().err


def test_one_that_is_interrupted(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(examples.runpy, "run_path", interrupted)
    assert cli.main(["examples", "echo", "--run"]) == 130


def test_one_that_needs_a_package(capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setitem(sys.modules, "flask", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["examples", "flask", "--run"])
    assert ended.value.code == 2
    assert "flask needs flask: pip install flask" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (["echo", "--run", "127.0.0.1", "0"], "/"),
        (["chat", "--run", "--server", ":0"], "/chat"),
    ],
)
def test_one_that_runs(arguments, path):
    with Process.python("-m", "scriptling_ws", "examples", *arguments) as program:
        port = re.search(r"ws://127\.0\.0\.1:(\d+)", program.line_with("ws://"))[1]
        with ws.connect(f"ws://127.0.0.1:{port}{path}") as conn:
            conn.send('{"name": "Ann"}')
            assert "Ann" in conn.receive(30)
            program.send_signal(signal.SIGINT)
            assert program.finish()[1] == 0


def test_they_are_those_of_the_repository():
    """In a wheel, which is tested with the files of the source distribution, they are a copy."""

    def files(home):
        return {
            path.relative_to(home).as_posix(): path.read_bytes()
            for path in home.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(EXAMPLES) == files(REPOSITORY / "examples")
    assert len(files(EXAMPLES)) > 20


def test_what_a_build_takes_along(tmp_path):
    """Where setuptools is new enough for this package."""
    there = importlib.util.find_spec("setuptools") is not None
    version = importlib.metadata.version("setuptools") if there else "0"
    if int(version.partition(".")[0]) < 80:
        pytest.skip("there is no setuptools 80")
    command = [sys.executable, "setup.py", "-q", "build_examples", f"--build-lib={tmp_path}"]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)
    built = tmp_path / "scriptling_ws" / "_examples"
    assert (built / "chat" / "static" / "chat.js").is_file()
    assert not list(built.rglob("__pycache__"))
