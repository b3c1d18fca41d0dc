"""What the command shows of itself: without arguments, and to a shell that completes words."""

import os
import shutil
import subprocess
import sys

import pytest

import scriptling_ws
from scriptling_ws import __main__ as cli
from scriptling_ws import _kernel as _frame
from scriptling_ws._command import command, overview

pytestmark = pytest.mark.once("it opens no connection but for its examples")


def test_what_there_is(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scriptling-ws"])
    assert cli.main() == 0
    shown = capsys.readouterr().out
    first = f"scriptling-ws {scriptling_ws.__version__}, {_frame.IMPLEMENTATION} codec, "
    assert shown.startswith(first)
    for form in command._FORMS:
        assert f"scriptling-ws {form}" in shown
    assert "scriptling-ws --server :8080 setup.py" in shown


def test_its_programs_run(run):
    """As they are shown; the server of the one is what the client of the other talks to."""
    client, server = (
        part.partition("\n\n")[2].replace("\n    ", "\n").strip()
        for part in overview._CLIENT.split("A server:")
    )
    server = server.replace("port=8080)", "port=0, ready=visit)")
    program = (
        "import threading, os, signal\n"
        "def visit(server):\n"
        "    def go():\n"
        f"        exec({client!r}.replace('ws://127.0.0.1:8080', server.url))\n"
        "        server.close()\n"
        "    threading.Thread(target=go).start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + server],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(scriptling_ws.__file__))},
        check=True,
    )
    assert done.stdout == "hello\n"


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (lambda module: True, "installed: none.\nOthers: cli, gevent, metrics, redis, socks, "),
        (lambda module: module != "gevent", "installed: gevent.\nOthers: cli, metrics, redis, "),
        (lambda module: module == "zlib_ng", "socks.\nOthers: speed; pip install 'scriptling-ws[s"),
        (lambda module: False, "installed: cli, gevent, metrics, redis, socks, speed.\n\n"),
    ],
)
def test_extras(capsys, monkeypatch, away, text):
    monkeypatch.setattr(overview, "find_spec", lambda module: None if away(module) else module)
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert text in shown
    assert max(map(len, shown.splitlines())) <= 100
    monkeypatch.setattr(overview, "find_spec", lambda module: module)
    assert cli.main([]) == 0
    assert "Others" not in capsys.readouterr().out


# -- completion -------------------------------------------------------------------


@pytest.fixture
def completed(run, tmp_path):
    """What bash makes of the words of a command line."""
    pytest.importorskip("shtab", reason="shtab is not installed")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    status, script, errors = run("completion", "bash")
    assert (status, errors) == (0, "")
    (tmp_path / "completion").write_text(script)
    (tmp_path / "file.pem").touch()

    def complete(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        program = (
            f"source {tmp_path / 'completion'}\n"
            f"COMP_WORDS=(scriptling-ws {quoted}); COMP_CWORD={len(words)}\n"
            "_shtab_scriptling_ws\n"
            'printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        done = subprocess.run(
            [bash, "--norc", "-c", program],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return set(done.stdout.split())

    return complete


def test_bash(completed):
    assert {"connect", "demo", "examples", "completion"} <= completed("")
    assert completed("con") == {"connect"}
    assert "--server" in completed("--s")
    assert completed("connect", "--sen") == {"--send-binary", "--send-file"}
    assert completed("connect", "--binary", "") == {"hex", "base64", "list", "raw"}
    assert "file.pem" in completed("connect", "--cacert", "fi")
    assert completed("completion", "") == {"bash", "zsh"}


def test_zsh(run):
    pytest.importorskip("shtab", reason="shtab is not installed")
    status, script, errors = run("completion", "zsh")
    assert (status, errors) == (0, "")
    assert script.startswith("#compdef scriptling-ws")
    assert "--send-file[" in script
    if zsh := shutil.which("zsh"):
        subprocess.run([zsh, "-n"], input=script, text=True, check=True, timeout=60)


def test_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["completion", "bash"])
    assert ended.value.code == 2
    assert "completion needs shtab: pip install 'scriptling-ws[cli]'" in capsys.readouterr().err
