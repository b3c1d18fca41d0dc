"""The parts of `scriptling-ws connect` that do no I/O: what is shown, and what lines stand for."""

import argparse
import io
import json
import os
import signal
import stat
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from scriptling_ws import (
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    HandshakeError,
    InvalidURL,
    ProxyError,
    SendTimeout,
)
from scriptling_ws._command import escapes, server
from scriptling_ws._command.binary_forms import FORMS, as_bytes, as_text
from scriptling_ws._command.certificate import client_context
from scriptling_ws._command.documents import check_json, indented, on_one_line
from scriptling_ws._command.ending import ends_by_signals
from scriptling_ws._command.escapes import shown, shown_in_lines, shown_json
from scriptling_ws._command.feeding import lines_of
from scriptling_ws._command.history import MOST, History, history_path
from scriptling_ws._command.plan import _headers
from scriptling_ws._command.screen import Screen
from scriptling_ws._command.statuses import Status, of_close, of_error

pytestmark = pytest.mark.once

# What a terminal obeys, or what changes the order of what is read.
DANGEROUS = [
    *map(chr, range(32)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff",
    *"\ue000\U000e0001\ufff9",
]


@looped("character", [c for c in DANGEROUS if c not in "\t\n"])
def test_what_is_dangerous_is_escaped(character):
    for show in (shown, shown_in_lines):
        text = show(f"a{character}b")
        assert character not in text
        assert text.encode().decode("unicode_escape") == f"a{character}b"
    assert json.loads(shown_json(json.dumps(character, ensure_ascii=False))) == character


@pytest.mark.parametrize(
    "text", ["Grüße", "日本語", "a\tb", "12\u00a0000 €", "न्\u200dया", "👩\u200d👧", ""]
)
def test_what_can_be_read_stays(text):
    assert shown(text) == shown_in_lines(text) == text


def test_lines_are_one_or_indented():
    assert shown("a\nb") == r"a\nb"
    assert shown_in_lines("a\nb\n\nc") == "a\n  b\n  \n  c"


@given(st.text())
def test_nothing_dangerous_is_left_of_any_text(text):
    for show in (shown, shown_in_lines):
        left = {unicodedata.category(character) for character in show(text)}
        assert not left & {"Cs", "Co", "Cn", "Zl", "Zp"}
        assert not set(show(text)) & set(DANGEROUS) - set("\t\n")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def plain(kind, text):
    return text


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_a_document_stays_what_it_is(value, indent, ascii_):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_, allow_nan=False)
    check_json(text)
    line = on_one_line(text)
    assert "\n" not in line
    assert json.loads(line) == value
    assert json.loads(indented(text, plain)) == value
    assert not set(line + indented(text, plain)) & set(DANGEROUS) - {"\n"}


def test_numbers_stay_as_they_are_written():
    text = '{"a": 1.50, "a": 1e400, "b": ' + "1" * 5000 + "}"
    check_json(text)
    assert on_one_line(text) == text
    assert "1.50" in indented(text, plain)


def test_how_a_document_is_laid_out():
    text = '{"a":[1,{"b":null}],"c":{},"d":[]}'
    kinds = []
    shown_ = indented(text, lambda kind, part: kinds.append(kind) or part)
    assert shown_.split("\n") == [
        "{",
        '    "a": [',
        "      1,",
        "      {",
        '        "b": null',
        "      }",
        "    ],",
        '    "c": {},',
        '    "d": []',
        "  }",
    ]
    assert kinds.count("key") == 4
    assert kinds.count("number") == kinds.count("word") == 1


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[1,]", "NaN", "[Infinity]", "[" * 100_000, '"\x1b"', "{}{}"]
)
def test_what_is_no_document(text):
    with pytest.raises(ValueError):
        check_json(text)


@given(st.binary(), st.sampled_from([form for form in FORMS if form != "raw"]))
def test_forms_both_ways(data, form):
    assert as_bytes(as_text(data, form), form) == data


@pytest.mark.parametrize(
    ("form", "text", "data"),
    [
        ("hex", "0102FF", b"\x01\x02\xff"),
        ("hex", " 01 02 ", b"\x01\x02"),
        ("base64", "AQ L/", b"\x01\x02\xff"),
        ("list", "1 2,255", b"\x01\x02\xff"),
        ("list", "[]", b""),
        ("raw", "Grüße", "Grüße".encode()),
    ],
)
def test_what_may_be_typed(form, text, data):
    assert as_bytes(text, form) == data


@pytest.mark.parametrize(
    ("form", "text", "advice"),
    [
        ("hex", "0", "write bytes as in 01 02 ff"),
        ("base64", "A", "is no base64"),
        ("base64", "é", "is no base64"),
        ("list", "[256]", r"write \[1, 2, 255\]"),
        ("list", "[-1]", "is no list of bytes"),
        ("list", "[" + "9" * 10_000 + "]", r"'\[9{59}'\.\.\. is no list"),
    ],
)
def test_what_may_not(form, text, advice):
    with pytest.raises(ValueError, match=advice):
        as_bytes(text, form)


def test_statuses():
    assert of_close(1000) == of_close(1005) == Status.DONE
    assert of_close(1006) == of_close(None) == Status.LOST
    assert of_close(1001) == of_close(4000) == Status.CLOSED
    for error, status in (
        (ConnectionClosed(1011), Status.CLOSED),
        (HandshakeError("no", 403), Status.REFUSED),
        (HandshakeError("no HTTP"), Status.REFUSED),
        (ProxyError("no", status=407), Status.REFUSED),
        (ProxyError("not there"), Status.UNREACHABLE),
        (ConnectTimeout("late"), Status.TIMEOUT),
        (SendTimeout("late"), Status.TIMEOUT),
        (ConnectError("no"), Status.UNREACHABLE),
        (InvalidURL("no"), Status.USAGE),
        (ValueError("no"), Status.USAGE),
        (OSError(28, "full"), Status.FILE),
    ):
        assert of_error(error) is status


def test_lines_of_any_length(tmp_path):
    """Longer ones than what is read at a time too."""
    lines = ["x" * 200_000, "", "é" * 100_000, "", "y" * 150_001]
    file = tmp_path / "lines"
    file.write_text("\n".join(lines), encoding="utf-8", newline="")
    with file.open("rb") as input_:
        assert list(lines_of(input_.fileno())) == lines


def test_an_output_that_is_a_stand_in(monkeypatch):
    """As a program has that calls `main`; it need not be what Python's own is."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    Screen("hex", as_json=False, notes=False).show("Grüße \x1b")
    assert output.getvalue() == "Grüße \\x1b\n"


# -- the history ------------------------------------------------------------------


def test_where_the_history_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_path() == tmp_path / "scriptling-ws" / "history"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert history_path() == tmp_path / ".local" / "state" / "scriptling-ws" / "history"


def test_the_history_has_a_bound(tmp_path):
    path = tmp_path / "history"
    path.write_text("".join(f"{number}\n" for number in range(2 * MOST + 1)))
    path.chmod(0o644)
    entries = History(path).load()
    assert (len(entries), entries[0], entries[-1]) == (MOST, "2000", "1001")
    assert path.read_text().count("\n") == MOST  # what is older has gone
    assert os.listdir(tmp_path) == ["history"]
    History(path).add("new")
    assert History(path).load()[:2] == ["new", "2000"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_not_kept(tmp_path):
    history = History(tmp_path / "new" / "history")
    assert history.load() == []
    for entry in (" secret", "two\nlines", "x" * 5000):
        history.add(entry)
    assert not (tmp_path / "new").exists()
    history.add("\ud800 half a character")
    assert history.load() == ["? half a character"]


@pytest.mark.skipif(sys.platform == "win32", reason="a file is no directory in another way there")
def test_a_history_that_cannot_be_kept(tmp_path):
    (tmp_path / "file").write_text("no directory")
    history = History(tmp_path / "file" / "history")
    history.add("an entry")
    assert history.load() == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("nothing", "it has no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "it is damaged"),
    ],
)
def test_authorities_that_are_none(tmp_path, text, wrong):
    file = tmp_path / "authorities.pem"
    file.write_text(text)
    with pytest.raises(ValueError, match=wrong):
        client_context(str(file), None, None, insecure=False)


def test_a_file_of_headers_has_to_be_text(tmp_path):
    file = tmp_path / "headers"
    file.write_bytes(b"X-One: \xff")
    with pytest.raises(ValueError, match="the file is no UTF-8 text"):
        _headers(f"@{file}")


@pytest.mark.parametrize(("patch", "name"), [(True, None), (False, "gevent")])
def test_an_engine_that_is_not_there(monkeypatch, capsys, patch, name):
    def absent(*_):
        raise ImportError("gevent is not here")

    monkeypatch.setattr(server, "patch_by_gevent", absent)
    monkeypatch.setattr(server, "choose", absent)
    with pytest.raises(SystemExit) as ended:
        server._engine(argparse.ArgumentParser(prog="program"), name, patch=patch)
    assert ended.value.code == 2
    said = "--patch needs gevent: pip install" if patch else "gevent is not here"
    assert said in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_a_signal_that_the_program_handles_is_left_to_it():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ends_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_peer_cannot_fill_the_memory_with_characters():
    table = escapes._Escapes(dict.fromkeys(range(0x1000, 0x1000 + 70_000), ""))
    assert table[7] == "\\x07"
    assert len(table) == 70_000
