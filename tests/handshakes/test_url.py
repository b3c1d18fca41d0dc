"""URLs: what is taken, what becomes of it, and what is refused before anything is sent."""

import base64
import copy
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from scriptling_ws._errors import InvalidURL, WebSocketError
from scriptling_ws._handshakes import url as _url
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._network.authority import host_port

pytestmark = pytest.mark.once


@looped(
    ("url", "secure", "host", "port", "target"),
    [
        ("ws://localhost", False, "localhost", 80, "/"),
        ("wss://localhost", True, "localhost", 443, "/"),
        ("ws://localhost:8080/chat", False, "localhost", 8080, "/chat"),
        ("WS://Example.COM/Path", False, "example.com", 80, "/Path"),
        ("ws://h:80/", False, "h", 80, "/"),
        ("wss://h:80/", True, "h", 80, "/"),
        ("ws://h:65535/", False, "h", 65535, "/"),
        ("ws://h:/", False, "h", 80, "/"),  # RFC 3986 section 3.2.3: an empty port
        ("ws://h?x=1", False, "h", 80, "/?x=1"),
        ("ws://h/?", False, "h", 80, "/?"),
        ("ws://h/a;b?c;d=e&f", False, "h", 80, "/a;b?c;d=e&f"),
        ("ws://h//evil/chat", False, "h", 80, "//evil/chat"),
        ("ws://h/a?b?c", False, "h", 80, "/a?b?c"),
        ("ws://under_score.example/", False, "under_score.example", 80, "/"),
        ("ws://example.com./", False, "example.com.", 80, "/"),
        ("ws://127.0.0.1:9/", False, "127.0.0.1", 9, "/"),
        ("ws://[::1]:8080/x", False, "::1", 8080, "/x"),
        ("ws://[::1]", False, "::1", 80, "/"),
        ("ws://[::ffff:1.2.3.4]/", False, "::ffff:1.2.3.4", 80, "/"),
        ("ws://[fe80::1%eth0]/", False, "fe80::1%eth0", 80, "/"),
    ],
)
def test_parts(url, secure, host, port, target):
    parsed = parse_url(url)
    assert (parsed.secure, parsed.host, parsed.port, parsed.target) == (secure, host, port, target)
    assert parsed.credentials is None


@pytest.mark.parametrize(
    ("url", "secure", "file", "target"),
    [
        ("ws+unix:///run/app.sock", False, "/run/app.sock", "/"),
        ("ws+unix:/run/app.sock", False, "/run/app.sock", "/"),
        ("WSS+UNIX:///run/app.sock", True, "/run/app.sock", "/"),
        ("ws+unix:///run/app.sock:/chat?x=1:2", False, "/run/app.sock", "/chat?x=1:2"),
        ("ws+unix:///run/app.sock:", False, "/run/app.sock", "/"),
        ("ws+unix:///run/app.sock?x", False, "/run/app.sock", "/?x"),
        ("ws+unix:///run/a%3Ab%20c%25.sock", False, "/run/a:b c%.sock", "/"),
        ("ws+unix:///caf\xe9:/caf\xe9", False, "/caf\xe9", "/caf%C3%A9"),
        ("ws+unix:///a:/b:/c", False, "/a", "/b:/c"),
    ],
)
def test_unix_sockets(url, secure, file, target):
    parsed = parse_url(url)
    assert (parsed.secure, parsed.unix, parsed.target) == (secure, file, target)
    assert (parsed.host, parsed.host_header) == ("localhost", "localhost")
    assert f"unix={file!r}" in repr(parsed)
    assert parse_url("ws://localhost/").unix is None
    assert "unix" not in repr(parse_url("ws://localhost/"))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ws+unix:", "whole path"),
        ("ws+unix://", "whole path"),
        ("ws+unix://run/app.sock", "whole path"),
        ("ws+unix://u:secret@h/run/app.sock", "whole path"),
        ("ws+unix:run/app.sock", "whole path"),
        ("ws+unix:///run/a%00b", "NUL"),
        ("ws+unix:///run/a:b", "write %3A"),
        ("ws+unix:///run/a#b", "fragment"),
        ("ws+unix:///run/a b", "percent-encode"),
        ("ws+unix:///\ud800", "surrogate"),
        ("unix:///run/a", "has to be ws or wss"),
    ],
)
def test_what_is_no_unix_socket(url, says):
    with pytest.raises(InvalidURL, match=says) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_origins():
    first = parse_url("ws://h/a").origin
    assert first == parse_url("ws://u:p@H:80/b?c").origin
    for other in ("wss://h:80/", "ws://h:81/", "ws://g/", "ws+unix:///h"):
        assert parse_url(other).origin != first


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("ws://h/", "h"),
        ("ws://h:80/", "h"),
        ("ws://h:443/", "h:443"),
        ("wss://h:443/", "h"),
        ("wss://h:80/", "h:80"),
        ("ws://[::1]/", "[::1]"),
        ("ws://[::1]:8080/", "[::1]:8080"),
        ("ws://[fe80::1%eth0]:8080/", "[fe80::1]:8080"),  # RFC 6874: a zone stays at home
    ],
)
def test_host_header(url, header):
    assert parse_url(url).host_header == header


def test_an_ipv6_zone_may_be_written_as_rfc_6874_says():
    assert parse_url("ws://[fe80::1%25eth0]/").host == "fe80::1%eth0"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/caf\xe9", "/caf%C3%A9"),
        ("/?q=\u20ac", "/?q=%E2%82%AC"),
        ("/\u2028", "/%E2%80%A8"),  # no line end gets through, of whatever alphabet
        ("/\x85", "/%C2%85"),
        ("/%41%zz", "/%41%zz"),  # what is encoded already is not encoded twice
        ('/"<>{}`^\\', "/%22%3C%3E%7B%7D%60%5E%5C"),
    ],
)
def test_the_target_is_percent_encoded(path, target):
    assert parse_url("ws://h" + path).target == target


@pytest.mark.parametrize("url", ["ws://h/?token=" + "x" * 20_000, "ws://h/" + "x" * (65_536 - 7)])
def test_a_long_url_is_taken_whole(url):
    assert parse_url(url).target == url.removeprefix("ws://h")
    assert len(url) <= 65_536


@pytest.mark.parametrize("length", [65_536, 65_537])
def test_a_url_may_have_65536_characters(length):
    url = "ws://h/".ljust(length, "a")
    if length == 65_536:
        assert len(parse_url(url).target) == length - len("ws://h")
        return
    with pytest.raises(InvalidURL, match="65537 characters long; 65536 is the most"):
        parse_url(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("b\xfccher.example", "xn--bcher-kva.example"),
        ("\uff45\uff58.example", "ex.example"),
        # Lower case by Unicode's rules would end it with a final sigma.
        ("\u0392\u038c\u039b\u039f\u03a3.Example", "xn--nxasmq6b.example"),
        ("user:pass@B\xdcCHER.example:8080", "xn--bcher-kva.example"),
    ],
)
def test_a_host_outside_ascii_becomes_its_idna_form(host, expected):
    assert parse_url(f"ws://{host}/").host == expected


# Nothing that could be smuggled into the request, no other scheme.
@pytest.mark.abuse(29, 31)
@looped(
    ("url", "says"),
    [
        ("", "scheme"),
        ("h", "scheme"),
        ("//h", "scheme"),
        ("http://h", "'http'"),
        ("https://h", "ws or wss"),
        ("wsx://h", "ws or wss"),
        ("ws:", "no host"),
        ("ws://", "no host"),
        ("ws:h", "no host"),
        ("ws:///x", "no host"),
        ("ws://:80/", "no host"),
        ("ws://?x", "no host"),
        ("ws://h/#", "%23"),
        ("ws://h/#x", "%23"),
        ("ws://h:0/", "port"),
        ("ws://h:65536/", "port"),
        ("ws://h:-1/", "port"),
        ("ws://h:+80/", "port"),
        ("ws://h:8_0/", "port"),
        ("ws://h:x/", "port"),
        ("ws://h:\uff18\uff10/", "port"),
        ("ws://h:80:80/", "port"),
        ("ws://::1/", "port"),
        ("ws://[::1/", "malformed"),
        ("ws://[::1]x/", "malformed"),
        ("ws://x[::1]/", "malformed"),
        ("ws://[::1]:80]/", "malformed"),
        ("ws://[]/", "host"),
        ("ws://[zz]/", "host"),
        ("ws://h\\evil/", "host name"),
        ("ws://a..b/", "host name"),
        ("ws://.h/", "host name"),
        ("ws://-h/", "host name"),
        ("ws://h%41/", "host name"),
        ("ws://h,i/", "host name"),
        ("ws://" + "a" * 64 + "/", "host name"),
        ("ws://\u2100.example/", "malformed"),  # NFKC makes "a/c" of it
        ("ws://\ud800/", "IDNA"),
        ("ws://h/\ud800", "surrogate"),
        ("ws://h/?\udfff", "surrogate"),
        ("ws://h\xfc%41/", "host name"),
        ("ws://\xfc..example/", "host name"),
        ("ws://\xfc.\xad.example/", "host name"),  # a soft hyphen is left out
        ("ws://a\u200db.example/", "IDNA"),
        ("ws://h/" + "a" * 65_536, "65536"),
    ],
)
def test_refused(url, says):
    with pytest.raises(InvalidURL, match=says):
        parse_url(url)


@pytest.mark.parametrize("url", ["{}ws://h/", "ws://{}h/", "ws://h{}/", "ws://h/{}", "ws://h/?{}"])
def test_no_control_character_or_blank_gets_through(url):
    for character in map(chr, (*range(0x21), 0x7F)):
        bad = url.format(character)
        with pytest.raises(InvalidURL, match="percent-encode") as caught:
            parse_url(bad)
        assert f"position {bad.index(character)}" in str(caught.value)


@pytest.mark.parametrize("url", [b"ws://h/", None, 1, ["ws://h/"]])
def test_other_types_are_a_type_error(url):
    with pytest.raises(TypeError, match="str"):
        parse_url(url)


def test_invalid_url_is_a_value_error_of_this_package():
    assert issubclass(InvalidURL, ValueError)
    assert issubclass(InvalidURL, WebSocketError)


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [
        ("user:secret", "user:secret"),
        ("user", "user:"),
        ("user:", "user:"),
        (":secret", ":secret"),
        ("", ":"),
        ("us%40er:p%3Aw%0D%0A", "us@er:p:w\r\n"),  # base64 hides it
        ("user:p@ss", "user:p@ss"),
        ("\xfcser:\u20ac", "\xfcser:\u20ac"),
    ],
)
def test_userinfo_becomes_basic_authorization(userinfo, pair):
    parsed = parse_url(f"ws://{userinfo}@h/x")
    kind, _, token = parsed.credentials.partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(token).decode() == pair
    assert parsed.host_header == "h"
    assert parsed.target == "/x"


@pytest.mark.parametrize("url", ["ws://%ff@h/", "ws://u:%ff@h/", "ws://u:\ud800@h/"])
def test_userinfo_that_is_not_utf8_is_refused(url):
    with pytest.raises(InvalidURL, match="not UTF-8"):
        parse_url(url)


# Userinfo is never shown.
@pytest.mark.abuse(31)
@pytest.mark.parametrize(
    "url",
    [
        "ws://user:hunter2@h:port/",
        "ws://user:hunter2@[::1",
        "ws://user:hunter2@/",
        "ws://user:hunter2@-h/",
        "ws://user:hunter2@h/#x",
        "ws://user:hunter2@h:0/",
        "ftp://user:hunter2@h/",
        "ws://user:hunter2/x@h/",  # a slash that should have been encoded
        "ws://user:hunter2%ff@h/",
        "ws://user:hunter2@h /",
        "ws://user:hunter2@h/" + "a" * 66_000,
        "ws://user:hunter2@\u0378/",
    ],
)
def test_no_error_shows_a_password(url):
    with pytest.raises(InvalidURL) as caught:
        parse_url(url)
    shown = "".join(traceback.format_exception(caught.value, chain=True))
    lines = [line for line in shown.splitlines() if not line.startswith(" ")]  # source lines
    assert "hunter2" not in "\n".join(lines)
    assert "hunter2" not in repr(caught.value)


def test_repr_shows_no_password():
    parsed = parse_url("ws://user:hunter2@h/")
    assert "hunter2" not in repr(parsed)
    assert base64.b64encode(b"user:hunter2").decode() not in repr(parsed)
    assert copy.copy(parsed) == parsed


@pytest.mark.parametrize(
    ("host", "text"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("h", "h:80")]
)
def test_host_port(host, text):
    assert host_port(host, 80) == text


@given(st.text(max_size=40))
def test_any_text_parses_safely_or_is_refused(text):
    for url in (text, "ws://" + text, "ws://h/" + text, "ws://h" + text):
        try:
            parsed = parse_url(url)
        except InvalidURL:
            continue
        request_line = f"GET {parsed.target} HTTP/1.1|{parsed.host_header}"
        assert request_line.isascii()
        assert request_line.isprintable()
        assert request_line.count(" ") == 2
        assert 0 < parsed.port < 65536


def test_brackets_hold_ipv6_alone():
    with pytest.raises(InvalidURL, match="not an IPv6 address"):
        parse_url("ws://[v1.a:b]/")


def test_the_longest():
    url = "ws://h/".ljust(_url._LONGEST, "a")
    assert parse_url(url).target == url[6:]
    with pytest.raises(InvalidURL, match="characters long"):
        parse_url(url + "a")
