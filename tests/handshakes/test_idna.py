"""Host names outside ASCII: what browsers make of them, and what they refuse."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from processes import python_environment
from scriptling_ws._handshakes.idna import ascii_name

pytestmark = pytest.mark.once


# The values are those of UTS 46 and of the tests of the WHATWG URL Standard.
@looped(
    ("name", "expected"),
    [
        ("Example.COM", "example.com"),
        # Nontransitional: what IDNA 2003 mapped to something else stays.
        ("fa\xdf.example", "xn--fa-hia.example"),
        ("FA\xdf.Example", "xn--fa-hia.example"),
        ("\u03b2\u03cc\u03bb\u03bf\u03c2.com", "xn--nxasmm1c.com"),  # a final sigma
        ("\u0392\u038c\u039b\u039f\u03a3.com", "xn--nxasmq6b.com"),  # capitals have none
        ("\u0dc1\u0dca\u200d\u0dbb\u0dd3.com", "xn--10cl1a0b660p.com"),  # a joiner
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.com", "xn--mgba3gch31f060k.com"),
        # Mapped.
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("B\xdcCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("b\xfc\xadcher.example", "xn--bcher-kva.example"),  # without a soft hyphen
        ("\u65e5\u672c\u8a9e\u3002\uff2a\uff30", "xn--wgv71a119e.jp"),
        ("b\xfccher\uff0eexample\uff61", "xn--bcher-kva.example."),
        ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"),
        # Symbols, and labels in ASCII that are no host's by the strictest rules.
        ("\u2603.net", "xn--n3h.net"),
        ("i\u2764.ws", "xn--i-7iq.ws"),
        ("under_score.b\xfccher.example", "under_score.xn--bcher-kva.example"),
        ("r3---sn.b\xfccher.example", "r3---sn.xn--bcher-kva.example"),
        ("xn--fa-hia.b\xfccher.example", "xn--fa-hia.xn--bcher-kva.example"),
        ("\u05d0\u05d1.example", "xn--4dbc.example"),
    ],
)
def test_names_become_what_browsers_make_of_them(name, expected):
    assert ascii_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "a\u200db.example",  # joiners between what does not join
        "a\u200cb.example",
        "\u200d\xfc.example",
        "\u0301a.example",  # a combining mark first
        "\u05d0a.example",  # both directions in one label
        "\u0378.example",  # not assigned
        "\ufffd.example",
        "\ue000.example",  # private use
        f"{chr(0xD800)}.example",
        "xn--\xfc.example",
        "\xfc" * 64 + ".example",
    ],
)
def test_names_that_cannot_be(name):
    with pytest.raises(ValueError, match=r"\w"):
        ascii_name(name)


@given(st.text(max_size=80))
def test_any_text_becomes_ascii_or_a_value_error(text):
    try:
        name = ascii_name(text)
    except ValueError:
        return
    assert name.isascii()
    assert name == name.lower()


def test_a_name_in_ascii_does_not_load_the_tables():
    code = """if True:
        import sys
        import scriptling_ws as ws
        try:
            ws.connect("ws://localhost:1/")
        except ws.ConnectError:
            pass
        assert "idna" not in sys.modules
        try:
            ws.connect("ws://a\\u200db.example:1/")
        except ws.InvalidURL:
            pass
        assert "idna" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=python_environment())
