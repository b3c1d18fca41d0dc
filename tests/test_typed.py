"""Options as text: what `-o NAME=VALUE` of the command line stands for."""

import pytest

from looped import looped
from scriptling_ws._options import ServerOptions
from scriptling_ws._server.server import Server
from scriptling_ws._typed import parse_options
from servers import echo

pytestmark = pytest.mark.once


@looped(
    ("texts", "options"),
    [
        ([], {}),
        (["max_connections=500"], {"max_connections": 500}),
        (["max_connections=none"], {"max_connections": None}),
        (["max-connections = 5"], {"max_connections": 5}),
        (["max_message_size=None"], {"max_message_size": None}),
        (["ping_interval=2.5", "ping_timeout=5"], {"ping_interval": 2.5, "ping_timeout": 5.0}),
        (["server_no_context_takeover=True"], {"server_no_context_takeover": True}),
        (["server_no_context_takeover=false"], {"server_no_context_takeover": False}),
        (["compression=deflate"], {"compression": "deflate"}),
        (["compression=none"], {"compression": None}),
        (["binary_type=bytes"], {"binary_type": bytes}),
        (["binary_type=list"], {"binary_type": list}),
        (["text_type=bytes", "binary_type=list"], {"text_type": bytes, "binary_type": list}),
        (["text_type=str"], {"text_type": str}),
        (["allowed_hosts=a.example"], {"allowed_hosts": ["a.example"]}),
        (["allowed_hosts=a.example, [::1],"], {"allowed_hosts": ["a.example", "[::1]"]}),
        (
            ["allowed_hosts=a", "max_requests=1", "allowed_hosts=b"],
            {"allowed_hosts": ["a", "b"], "max_requests": 1},
        ),
        (["origins=*"], {"origins": ["*"]}),
        (["origins="], {"origins": []}),  # for no browser
        (["origins=none", "allowed_hosts= None"], {"origins": None, "allowed_hosts": None}),
        (["page_headers=none"], {"page_headers": None}),
        (["allowed_hosts=none,a"], {"allowed_hosts": ["none", "a"]}),
        (["origins=https://a.example/?x=y"], {"origins": ["https://a.example/?x=y"]}),
        (["subprotocols=v2,v1"], {"subprotocols": ["v2", "v1"]}),
        (["health=true", "metrics=/figures"], {"health": True, "metrics": "/figures"}),
        (["health=none", "metrics=False"], {"health": None, "metrics": False}),
        (["drain_timeout=5"], {"drain_timeout": 5.0}),
        (["trusted_proxies=10.0.0.0/8, unix"], {"trusted_proxies": ["10.0.0.0/8", "unix"]}),
        (["proxy_protocol=true"], {"proxy_protocol": True}),
        (["max_connection_rate=0.5"], {"max_connection_rate": 0.5}),
    ],
)
def test_values(texts, options):
    parsed = parse_options(texts)
    assert parsed == options
    assert {name: type(value) for name, value in parsed.items()} == {
        name: type(value) for name, value in options.items()
    }


@looped(
    ("text", "error", "says"),
    [
        ("max_connections", ValueError, "write NAME=VALUE"),
        ("=5", ValueError, "write NAME=VALUE"),
        ("", ValueError, "write NAME=VALUE"),
        ("max_conections=5", TypeError, "did you mean 'max_connections'"),
        ("nonsense=5", TypeError, "takes no option 'nonsense'"),
        ("max_connections=many", ValueError, "has to be a whole number or none, not 'many'"),
        ("max_connections=5.0", ValueError, "a whole number"),
        ("max_connections=", ValueError, "a whole number"),
        ("max_requests=none", ValueError, "has to be a whole number, not 'none'"),
        ("max_requests=__import__('os')", ValueError, "a whole number"),
        ("ping_interval=often", ValueError, "a number or none"),
        ("server_no_context_takeover=1", ValueError, "true or false"),
        ("compression=gzip", ValueError, "has to be deflate or none"),
        ("binary_type=str", ValueError, "has to be list or bytes"),
        ("text_type=list", ValueError, "has to be str or bytes"),
        ("loads=json.loads", ValueError, "set by the setup script"),
        ("dumps=json.dumps", ValueError, "set by the setup script"),
        ("ssl_context=x", ValueError, "set by --tls-cert"),
        ("host=0.0.0.0", ValueError, "set by --server"),
        ("port=80", ValueError, "set by --server"),
        ("path=/x", ValueError, "set by the setup script"),
        ("routes=x", ValueError, "set by the setup script"),
        ("handler=x", ValueError, "set by the setup script"),
        ("ready=x", ValueError, "set by the setup script"),
        ("sock=x", ValueError, "set by --fd"),
        ("unix=x", ValueError, "set by --server unix:PATH"),
        ("unix_mode=660", ValueError, "set by --unix-mode"),
        ("unix_owner=x", ValueError, "set by --unix-owner"),
        ("processes=2", ValueError, "set by --processes"),
        ("reload_timeout=2", ValueError, "set by --reload-timeout"),
    ],
)
def test_what_is_no_option_or_no_value_of_it(text, error, says):
    with pytest.raises(error, match=says):
        parse_options([text])


def test_an_option_with_one_value_is_named_once():
    with pytest.raises(ValueError, match="max_requests is there twice"):
        parse_options(["max_requests=1", "max_requests=1"])
    for texts in (["none", "a: b"], ["a: b", "none"], ["none", "none"]):
        with pytest.raises(ValueError, match="page_headers is there twice"):
            parse_options(f"page_headers={text}" for text in texts)


# A text for each option that the server has, so that none is forgotten.
TEXTS = {
    "authorize": "au_typed.check",
    "access_log": "json",
    "allowed_hosts": "localhost",
    "binary_type": "bytes",
    "client_max_window_bits": "15",
    "client_no_context_takeover": "true",
    "close_timeout": "0.5",
    "compression": "deflate",
    "compression_threshold": "0",
    "compression_level": "9",
    "drain_timeout": "0",
    "forwarded_header": "forwarded",
    "handshake_timeout": "none",
    "health": "/up",
    "max_connection_burst": "20",
    "max_connection_rate": "0.5",
    "max_connections": "10",
    "max_connections_per_address": "none",
    "max_fragments": "10",
    "max_head_size": "10000",
    "max_headers": "10",
    "max_line_size": "1000",
    "max_message_size": "none",
    "max_pending_pongs": "2",
    "max_requests": "10",
    "metrics": "/figures",
    "origins": "https://a.example,null",
    "page_headers": "X-Frame-Options: DENY",
    "ping_interval": "none",
    "ping_timeout": "1",
    "proxy_protocol": "false",
    "root_path": "/app",
    "send_timeout": "none",
    "server_max_window_bits": "9",
    "server_no_context_takeover": "false",
    "shutdown_timeout": "0.1",
    "subprotocols": "chat",
    "text_type": "str",
    "trusted_proxies": "127.0.0.1,10.0.0.0/8,::1,unix",
}


def test_each_option_of_the_server_has_a_text(tmp_path, monkeypatch):
    (tmp_path / "au_typed.py").write_text("def check(request): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    elsewhere = {"engine", "ssl_context", "sock", "unix", "unix_mode", "unix_owner"}
    elsewhere |= {"loads", "dumps"}
    for name in {*ServerOptions.__annotations__, "binary_type", "text_type"} - elsewhere:
        text = TEXTS.get(name, "1")  # a count or a number of seconds
        options = parse_options([f"{name}={text}"])
        Server(echo, port=0, **options).close()
    Server(echo, port=0, **parse_options(f"{k}={v}" for k, v in TEXTS.items())).close()


def test_a_dict_has_its_entries_one_by_one():
    texts = ["page_headers=X-A: b: c", "page-headers = X-D :", "page_headers=X-A:e"]
    assert parse_options(texts) == {"page_headers": {"X-A": "e", "X-D": None}}
    with pytest.raises(ValueError, match="page_headers=NAME: VALUE"):
        parse_options(["page_headers=X-A"])


def test_options_of_a_client():
    texts = [
        *("unix=/run/app.sock", "source_address=127.0.0.1", "cookies=a: 1", "cookies=b: 2"),
        *("subprotocols=v2,v1", "max-redirects=3", "ping_interval=none", "compression=deflate"),
    ]
    options = {
        "unix": "/run/app.sock",
        "source_address": "127.0.0.1",
        "cookies": {"a": "1", "b": "2"},
        "subprotocols": ["v2", "v1"],
        "max_redirects": 3,
        "ping_interval": None,
        "compression": "deflate",
    }
    assert parse_options(texts, "connect") == options
    assert parse_options([*texts, "max_tries=3"], "reconnecting") == {**options, "max_tries": 3}
    with pytest.raises(TypeError, match=r"it is an option of reconnecting\(\)"):
        parse_options(["max_tries=3"], "connect")
    with pytest.raises(ValueError, match="final is set by a program"):
        parse_options(["final=x"], "reconnecting")
    with pytest.raises(ValueError, match="such as max_tries=8"):
        parse_options(["x"], "reconnecting")
