"""Origins and host names: who may come in."""

import ast
import logging
import re

import pytest

from looped import looped
from scriptling_ws._server.admission import (
    Hosts,
    Origins,
    _as_browsers_send,
    _same_host,
    _tell_of_browsers,
)

pytestmark = pytest.mark.once


@looped(
    ("origin", "host", "allowed"),
    [
        (None, "example.com", True),  # a program, not a browser
        ("http://example.com", "example.com", True),
        ("https://example.com", "example.com", True),  # a proxy ends TLS
        ("https://example.com", "example.com:443", True),
        ("http://example.com:80", "example.com", True),
        ("HTTP://EXAMPLE.com", "Example.COM", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://example.com:8080", "example.com", False),
        ("http://example.com", "example.com:8080", False),
        ("https://example.com", "example.com:80", False),
        ("http://evil.example", "example.com", False),
        ("http://example.com.evil.example", "example.com", False),
        ("http://evil.example/example.com", "example.com", False),
        ("http://example.com@evil.example", "example.com", False),
        ("http://evil.example#example.com", "example.com", False),
        ("http://example.com, http://evil.example", "example.com", False),
        ("null", "example.com", False),
        ("null", "null", False),
        ("", "", False),
        ("http://", "", False),
        ("garbage", "garbage", False),
        ("http://example.com/", "example.com", False),
    ],
)
def test_same_host_is_the_default(origin, host, allowed):
    assert Origins().allow(origin, host, secure=False) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "plain", "tls"),
    [
        ("https://own.example", "own.example", True, True),  # without TLS: a proxy ends it
        ("http://own.example", "own.example", True, False),
        ("https://own.example:8443", "own.example:8443", True, True),
        ("http://own.example:8443", "own.example:8443", True, False),
        ("ws://own.example", "own.example", False, False),
        ("wss://own.example", "own.example", False, False),
        ("capacitor://localhost", "localhost", False, False),
        ("ionic://localhost", "localhost", False, False),
        ("chrome-extension://own.example", "own.example", False, False),
        ("ftp://own.example", "own.example", False, False),
    ],
)
def test_the_scheme_of_the_own_host(origin, host, plain, tls):
    assert Origins().allow(origin, host, secure=False) is plain
    assert Origins().allow(origin, host, secure=True) is tls
    for secure in (False, True):  # as any that is named
        assert Origins([origin]).allow(origin, host, secure=secure)


def test_an_empty_list_is_for_no_browser():
    for none in ([], ()):
        origins = Origins(none)
        for secure in (False, True):
            assert not origins.allow("https://example.com", "example.com", secure=secure)
            assert origins.allow(None, "example.com", secure=secure)
        assert origins.advice("https://example.com") == "origins=[] is for no browser at all"


def test_named_origins_are_allowed_beside_the_own_host():
    origins = Origins(["https://app.example", "http://localhost:3000"])
    assert origins.allow("https://app.example", "api.example", secure=False)
    assert origins.allow("https://APP.example:443", "api.example", secure=False)
    assert origins.allow("http://localhost:3000", "api.example", secure=False)
    assert origins.allow("http://api.example", "api.example", secure=False)
    assert not origins.allow("http://app.example", "api.example", secure=False)
    assert not origins.allow("https://app.example:444", "api.example", secure=False)
    assert not origins.allow("null", "api.example", secure=False)


@pytest.mark.parametrize("origins", ["*", ["*"], ["https://a.example", "*"]])
def test_any_origin(origins):
    assert Origins(origins).allow("http://evil.example", "example.com", secure=False)
    assert Origins(origins).allow("null", "example.com", secure=False)


def test_null_can_be_named():
    assert Origins(["null"]).allow("null", "example.com", secure=False)


# What browsers, their extensions, apps and devices send, beside https://host.
STRANGE = [
    "null",
    "file://",
    "file:///android_asset/www/index.html",
    "app://.",
    "app://obsidian.md",
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "chrome-extension://fmkadmapgofadopljbjfkapdkoienihi",
    "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
    "safari-web-extension://5C5D0B0F-7F3A-4C0B-9C0A-2F3C1D5E6F70",
    "vscode-webview://0c5a",
    "https://example.com/",
    "https://example.com/chat",
    "https://example.com:443/",
    "https://a b",
    "https://",
    "about:blank",
    "example.com",
    "192.168.4.1:81",
    "http://a, http://b",
]


@looped("origin", STRANGE)
def test_what_is_sent_can_be_allowed(origin):
    origins = Origins([origin])
    assert origins.allow(origin, "api.example", secure=False)
    assert not Origins().allow(origin, "api.example", secure=False)
    for other in ({*STRANGE, "https://example.com", origin + "/", origin + "x"}) - {origin}:
        assert not origins.allow(other, "api.example", secure=False), other


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        ("HTTPS://Example.com", "https://example.com"),
        ("https://example.com", "https://EXAMPLE.com:443"),
        ("http://example.com:80", "http://example.com"),
        ("ws://example.com:80", "ws://example.com"),
        ("wss://example.com", "wss://example.com:443"),
        ("Capacitor://LOCALHOST", "capacitor://localhost"),
        ("http://[::0001]:8080", "http://[::1]:8080"),
        ("https://xn--bcher-kva.example", "https://XN--bcher-kva.example"),
    ],
)
def test_an_origin_is_the_same_in_other_words(entry, origin):
    assert Origins([entry]).allow(origin, "api.example", secure=False)
    assert Origins([origin]).allow(entry, "api.example", secure=False)


@pytest.mark.parametrize(
    ("entry", "origin"),
    [
        ("https://example.com", "http://example.com"),
        ("https://example.com", "https://example.com:80"),
        ("https://example.com", "https://example.com."),
        ("https://example.com", "https://example.com/"),  # as it stands
        ("https://example.com/", "https://example.com"),
        ("https://example.com/A", "https://example.com/a"),
        ("https://example.com/", "https://EXAMPLE.com/"),
        ("file://", "FILE://"),
        ("null", "NULL"),
        ("app://.", "app://"),
        ("ws://example.com:443", "ws://example.com"),
        ("capacitor://localhost:80", "capacitor://localhost"),
    ],
)
def test_an_origin_is_another(entry, origin):
    assert not Origins([entry]).allow(origin, "api.example", secure=False)
    assert not Origins([origin]).allow(entry, "api.example", secure=False)


@looped(
    ("entry", "text"),
    [
        ("", "empty entry"),
        ("https://*.example.com", "no wildcards"),
        ("*.example", "no wildcards"),
        ("https://example.com:*", "no wildcards"),
        ("*://example.com", "no wildcards"),
        ("https://b\xfccher.example", "'https://xn--bcher-kva.example'"),
        ("https://b\xfccher.example:8443", "'https://xn--bcher-kva.example:8443'"),
        ("https://fa\xdf.example", "so write that$"),  # fass.example would be another one
        ("https://\u65e5\u672c.example", "xn--wgv71a"),
        ("b\xfccher.example", "so write that$"),
        ("https://example.com ", "blanks around it"),
        ("\thttps://example.com", "blanks around it|control"),
        ("https://exam\nple.com", "control character"),
        ("https://exam\x7fple.com", "control character"),
    ],
)
def test_entries_that_never_match_are_refused_at_once(entry, text):
    with pytest.raises(ValueError, match=text):
        Origins(["https://example.com", entry])


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("shop.example", "'https://shop.example' or 'http://shop.example'"),
        ("localhost", "'https://localhost'"),
        ("localhost:3000", "'http://localhost:3000'"),
        ("192.0.2.7:81", "'http://192.0.2.7:81'"),
        ("//shop.example", "'https://shop.example'"),
        ("shop.example/chat", "'https://shop.example'"),
        ("https://shop.example/", "write 'https://shop.example'$"),
        ("http://shop.example:8080/chat?a#b", "write 'http://shop.example:8080'$"),
        ("HTTPS:/shop.example", "write 'https://shop.example'$"),
        ("ws://shop.example", "write 'http://shop.example'$"),
        ("wss://shop.example/chat", "write 'https://shop.example'$"),
        ("Null", "write 'null'$"),
    ],
)
@pytest.mark.parametrize("name", ["origins", "cors"])
def test_an_entry_that_no_browser_sends_is_logged_once(log, entry, advice, name):
    _tell_of_browsers.cache_clear()
    for _ in range(2):
        origins = Origins([entry], name)
    (text,) = log.texts(logging.WARNING)
    assert text.startswith(f"{name} has '{entry}', which no browser sends")
    assert re.search(advice, text)
    (form,) = re.findall(r"write '([^']*)'", text)
    assert not origins.allow(form, "api.example", secure=False)
    assert Origins([form], name).allow(form, "api.example", secure=False)
    assert len(log.records) == 1  # of the form that was advised nothing is said


@pytest.mark.parametrize(
    "entry",
    [
        *["https://shop.example", "http://localhost:3000", "HTTPS://Shop.example:443", "null"],
        *["file://", "file:///a/b.html", "app://.", "app://obsidian.md", "capacitor://localhost"],
        *["chrome-extension://fmkadm", "about:blank", "device", "https://", "https://a b", "*"],
    ],
)
def test_nothing_is_said_of_what_is_sent_so(log, entry):
    _tell_of_browsers.cache_clear()
    Origins([entry])
    assert not log.records


@looped("origin", [*STRANGE, "http://own.example:81"])
def test_what_the_log_advises_is_taken_as_written(origin):
    advised = Origins().advice(origin).partition("origins=")[2]
    assert Origins(ast.literal_eval(advised)).allow(origin, "api.example", secure=False)


@pytest.mark.parametrize("origin", ["", "*", "https://*.a.example", "http://\x9b31m", "a" * 201])
def test_what_cannot_be_an_entry_is_not_advised(origin):
    assert "origins=[" not in Origins().advice(origin)


@pytest.mark.parametrize("origins", ["https://example.com", 5, [5], [None]])
def test_origin_types(origins):
    with pytest.raises(TypeError, match="origins has to"):
        Origins(origins)


@pytest.mark.abuse(16)
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.com", True),
        ("EXAMPLE.com:8080", True),
        ("pinned.example:443", True),
        ("[::1]:9", True),
        ("pinned.example", False),
        ("pinned.example:444", False),
        ("evil.example", False),
        ("example.com.evil.example", False),
        ("example.com@evil.example", False),
        ("", False),
    ],
)
def test_allowed_hosts(host, allowed):
    hosts = Hosts(["example.com", "pinned.example:443", "[::1]"])
    hosts.listen_on(["127.0.0.1"], ["127.0.0.1"])  # what was named is all that there is
    assert hosts.allow(host) is allowed


@pytest.mark.parametrize(
    ("given", "host", "addresses"),
    [
        (None, "0.0.0.0", ["0.0.0.0"]),
        (None, "::", ["::"]),
        (None, "192.0.2.1", ["192.0.2.1"]),
        (None, "both.example", ["127.0.0.1", "192.0.2.1"]),
        (None, "", []),  # on a Unix socket alone
        ("*", "127.0.0.1", ["127.0.0.1"]),
        (["*"], "127.0.0.1", ["127.0.0.1"]),
        (["example.com", "*"], "127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_any_host(given, host, addresses):
    hosts = Hosts(given)
    hosts.listen_on([host], addresses)
    assert hosts.allow("whatever.example")
    assert hosts.allow(None)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1.2.3", "127.1.2.3"),
        ("localhost", "::1"),
        ("::1", "::1"),
        ("own.example", "127.0.1.1"),
        ("OWN.example.", "127.0.1.1"),
    ],
)
def test_on_the_loopback_the_names_of_this_machine_alone(host, address):
    hosts = Hosts()
    hosts.listen_on([host], ["127.0.0.1", address])
    for own in (
        None,
        "localhost",
        "LocalHost.:8080",
        "app.localhost:1",
        "127.0.0.1:8080",
        "127.255.0.1",
        "[::1]:8080",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "a-container:8080",
        "this_machine",
    ):
        assert hosts.allow(own), own
    for foreign in (
        "evil.example",
        "evil.example:8080",
        "evil.example.",
        "localhost.evil.example",
        "localhost.evil",
        "xlocalhost.evil",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:192.0.2.1]",
        "[2001:db8::1]",
        "x.own.example",
    ):
        assert not hosts.allow(foreign), foreign
    assert hosts.allow("own.example:99") is ("own" in host.lower())


@pytest.mark.parametrize("host", ["example.com", "example.com:8080", "[::1]", "[2001:db8::1]:80"])
def test_what_the_log_advises_of_a_host_is_taken_as_written(host):
    advised = Hosts.advice(host).partition("allowed_hosts=")[2]
    assert Hosts(ast.literal_eval(advised)).allow(host)


def test_a_host_that_is_not_shown_whole_is_not_advised():
    assert "allowed_hosts=[" not in Hosts.advice(".".join(["a" * 60] * 4))


def test_a_request_without_host_is_no_browsers():
    assert Hosts(["example.com"]).allow(None)


def test_hosts_are_the_same_in_other_words():
    assert Hosts(["[::0001]:80", "Example.COM"]).allow("[::1]:80")
    assert Hosts(["[::1]"]).allow("[0:0::1]:99")
    assert Hosts(["example.com:"]).allow("EXAMPLE.com")
    assert Hosts(["example.com."]).allow("example.com")
    assert Hosts(["example.com"]).allow("example.com.")


def test_malformed_hosts_are_refused_at_once():
    for bad in (
        ["http://example.com"],
        ["a b"],
        [""],
        ["a/"],
        ["*.example.com"],
        ["b\xfccher.example"],
        ["user@example.com"],
        ["a:99999"],
    ):
        with pytest.raises(ValueError, match="is not a host"):
            Hosts(bad)
    with pytest.raises(ValueError, match="empty"):
        Hosts([])
    for bad in ("example.com", 5, [5]):
        with pytest.raises(TypeError):
            Hosts(bad)


@pytest.mark.parametrize("entry", ["?x", "#", "/"])
def test_for_what_is_no_origin_at_all_there_is_nothing_better(entry):
    assert _as_browsers_send(entry) == ""


def test_a_host_header_that_is_none_is_no_origin_s():
    assert _same_host(("https", "a.example", None), "a.example", secure=True)
    assert not _same_host(("https", "a.example", None), "a b", secure=True)
