"""The bar of --save and --send-file, on a real terminal; and its words."""

import contextlib
import os
import sys

import pytest

from scriptling_ws._command import progress
from scriptling_ws._command.progress import Bar, clock, sized


@pytest.mark.once
@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1.5e6, "1.5 MB"), (9e18, "9000.0 PB")],
)
def test_sizes(number, text):
    assert sized(number) == text


@pytest.mark.once
@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.9, "1:05"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_times(seconds, text):
    assert clock(seconds) == text


@pytest.mark.once
def test_where_there_is_no_terminal_there_is_no_bar(capsys):
    bar = Bar("sent")
    bar(1, 2)
    bar.finish()
    assert capsys.readouterr().err == ""


@pytest.mark.once
def test_how_fast_it_is_and_how_long_it_takes(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = Bar("sent")
    bar(0, 4_000_000)
    now = 102.0
    bar(1_000_000, 4_000_000)
    assert "25% 1.0 MB of 4.0 MB, 500.0 kB/s, 0:06 left" in capsys.readouterr().err
    bar(4_000_000, 4_000_000)
    bar.finish()
    assert capsys.readouterr().err.endswith("100% 4.0 MB of 4.0 MB, 2.0 MB/s\x1b[K\n")


@pytest.mark.once
def test_how_fast_it_is_where_nobody_knows_its_size(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = Bar("received")
    bar(0, None)
    now = 102.0
    bar(1_000_000, None)
    assert capsys.readouterr().err.endswith("\rreceived 1.0 MB, 500.0 kB/s\x1b[K")


def until_shown(terminal, text, pieces):
    """Pieces one after the other until there is a bar: the one before it may not have ended yet."""
    for piece in pieces:
        yield piece
        if not any(line.startswith(text) for line in terminal.lines):
            with contextlib.suppress(AssertionError):
                terminal.until(text, 0.1)


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="Windows has no ptys")
def test_bars_on_a_terminal(peer, tmp_path):
    pytest.importorskip("pexpect", reason="pexpect is not installed")
    pytest.importorskip("pyte", reason="pyte is not installed")
    from terminals import Terminal

    file, saved = tmp_path / "file", tmp_path / "saved"
    file.write_bytes(b"x" * 2_000_000)
    arguments = ("connect", "--send-file", str(file), "--save", str(saved), "--once", peer.url)
    with Terminal("-m", "scriptling_ws", *arguments) as terminal:
        conn = peer.accept()
        assert len(conn.receive(60)) == 2_000_000
        terminal.until("sent [########################] 100% 2.0 MB of 2.0 MB")
        conn.send_stream(until_shown(terminal, "received ", [b"y" * 100_000] * 10))
        assert terminal.end() == 0
        assert [line for line in terminal.lines if line.startswith("received 1.0 MB")]
    assert saved.stat().st_size == 1_000_000
