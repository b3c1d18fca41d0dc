"""The image of deploy/, without Docker: its lines name what is there, its commands work."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import pytest

import scriptling_ws as ws
from deployed import DEPLOY, image, text_of
from pairs import until
from places import REPOSITORY
from processes import Process
from programs import free_port, runs_once

pytestmark = runs_once

FOLDER = DEPLOY / "docker"
TIMEOUT = 10


def values(name):
    return [text for instruction, text in image() if instruction == name]


def test_what_is_copied_is_there_and_is_not_ignored():
    ignored = text_of("docker/.dockerignore").split()
    assert ignored[0] == "*"
    own = [text for text in values("COPY") if not text.startswith("--from")]
    assert len(own) == 2
    for text in own:
        *sources, _ = text.split()
        for source in sources:
            assert (FOLDER / source).exists(), source
            assert f"!{source.rstrip('/')}" in ignored


def test_what_one_stage_copies_from_the_other_is_made_there():
    (copied,) = (text for text in values("COPY") if text.startswith("--from"))
    stage, source, _ = copied.split()
    name = stage.removeprefix("--from=")
    assert any(text.endswith(f" AS {name}") for text in values("FROM"))
    assert any(f"venv {source}" in text for text in values("RUN"))
    assert f"{source}/bin" in " ".join(values("ENV"))


def test_the_image_is_slim_and_nobody_runs_it():
    assert all("-slim" in text for text in values("FROM"))
    (user,) = values("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    *_, last = (name for name, _ in image() if name in ("RUN", "USER"))
    assert last == "USER"  # nothing is installed by a build that was not root's


def test_it_installs_an_extra_that_there_is():
    (requirement,) = text_of("docker/requirements.txt").split()
    name, extra = re.fullmatch(r"([\w-]+)\[(\w+)\]", requirement).groups()
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'name = "{name}"' in project
    extras = re.search(r"^\[project\.optional-dependencies\]\n(.*?)\n\n", project, re.M | re.S)[1]
    assert re.search(rf"^{extra} = \[", extras, re.M)


def command(port, *more):
    """What the container runs, here; with a port of its own."""
    (entry,), (arguments,) = values("ENTRYPOINT"), values("CMD")
    program, *rest = json.loads(entry) + json.loads(arguments)
    assert program == "scriptling-ws"
    rest = [part.replace("0.0.0.0:8080", f"127.0.0.1:{port}") for part in rest]
    return ["-m", "scriptling_ws", *more, *rest]


def is_healthy(port):
    """What the image's health check says."""
    (check,) = values("HEALTHCHECK")
    program, *rest = json.loads(check[check.index("CMD [") + 4 :])
    assert program == "python"
    rest = [part.replace(":8080", f":{port}") for part in rest]
    result = subprocess.run([sys.executable, *rest], capture_output=True, timeout=60, check=False)
    return result.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
def test_what_it_runs():
    port = free_port()
    assert f"EXPOSE {values('EXPOSE')[0]}" == "EXPOSE 8080"
    with Process.python(*command(port), cwd=FOLDER / "app") as process:
        process.line_with("listening on")
        with contextlib.closing(ws.connect(f"ws://127.0.0.1:{port}/echo")) as conn:
            conn.send("x")
            assert conn.receive(TIMEOUT) == "x"
            conn.send_binary([1, 2])
            assert conn.receive(TIMEOUT) == [1, 2]
            assert is_healthy(port)
            (number,) = values("STOPSIGNAL")
            process.send_signal(getattr(signal, number))
            until(lambda: not is_healthy(port))
            conn.send("y")  # it drains: what is open goes on
            assert conn.receive(TIMEOUT) == "y"
            process.send_signal(signal.SIGTERM)
            process.finish()
    assert not is_healthy(port)


def test_the_time_to_drain_is_longer_than_the_checks_take():
    (check,) = values("HEALTHCHECK")
    times = {name: int(value) for name, value in re.findall(r"--([a-z]+)=(\d+)s?", check)}
    (drain,) = re.findall(r"drain_timeout=(\d+)", " ".join(values("CMD")))
    assert int(drain) >= times["interval"] * times["retries"]
