"""Options: what they may be, what they are by default, and what is said of an unknown one.

What type checkers say of them is held in `typed`, by `make lint`.
"""

import functools
import inspect
import math
import re
import typing

import pytest

import scriptling_ws as ws
from looped import looped
from pairs import MIB
from scriptling_ws import _unknown, asgi, runtime, wsgi
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._options import Options

pytestmark = pytest.mark.once

# What decides the type of `receive` is a parameter of each call, where type checkers see it.
DECIDE = {"binary_type", "text_type"}


@looped(
    ("options", "error", "says"),
    [
        ({"binary_type": str}, ValueError, "list or bytes"),
        ({"binary_type": "list"}, ValueError, "list or bytes"),
        ({"text_type": list}, ValueError, "str or bytes"),
        ({"text_type": "str"}, ValueError, "str or bytes"),
        ({"text_type": bytes, "binary_type": bytes}, ValueError, "would look the same"),
        ({"dumps": "json.dumps"}, TypeError, "dumps has to be a function, not str"),
        ({"loads": 5}, TypeError, "loads has to be a function, not int"),
        ({"max_message_size": 0}, ValueError, "max_message_size"),
        ({"max_message_size": -1}, ValueError, "max_message_size"),
        ({"max_message_size": 2**63}, ValueError, "max_message_size"),
        ({"max_message_size": True}, TypeError, "max_message_size"),
        ({"max_message_size": "1"}, TypeError, "max_message_size"),
        ({"max_fragments": 0}, ValueError, "max_fragments"),
        ({"max_fragments": None}, TypeError, "max_fragments"),
        ({"send_timeout": -1}, ValueError, "send_timeout"),
        ({"send_timeout": "1"}, TypeError, "send_timeout"),
        ({"close_timeout": math.nan}, ValueError, "close_timeout"),
        ({"compression": "gzip"}, ValueError, "compression has to be 'deflate' or None"),
        ({"compression": True}, ValueError, "compression has to be 'deflate' or None"),
        ({"compression_threshold": -1}, ValueError, "at least 0"),
        ({"compression_threshold": 1.0}, TypeError, "compression_threshold"),
        ({"compression_level": 0}, ValueError, "at least 1"),
        ({"compression_level": 10}, ValueError, "from 1 to 9"),
        ({"compression_level": "9"}, TypeError, "compression_level"),
        ({"server_no_context_takeover": 1}, TypeError, "server_no_context_takeover"),
        ({"client_no_context_takeover": None}, TypeError, "client_no_context_takeover"),
        ({"server_max_window_bits": 8}, ValueError, "server_max_window_bits has to be from 9"),
        ({"client_max_window_bits": 16}, ValueError, "client_max_window_bits has to be from 9"),
        ({"client_max_window_bits": "9"}, TypeError, "client_max_window_bits"),
        ({"bogus": 1}, TypeError, "bogus"),
    ],
)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=says):
        Options(**options)


def test_defaults():
    defaults = Options()
    assert defaults.binary_type is list
    assert defaults.text_type is str
    assert defaults.loads is defaults.dumps is None
    assert defaults.max_message_size == 16 * MIB
    assert defaults.max_fragments == 131_072  # the Autobahn testsuite sends 65,536
    assert (defaults.send_timeout, defaults.close_timeout) == (60, 5)
    assert (defaults.compression, defaults.compression_threshold) == (None, 1024)
    assert Terms.wanted(defaults) is None


def test_what_is_wanted_of_compression():
    assert Terms.wanted(Options(compression="deflate")) == Terms()
    options = Options(
        compression="deflate",
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=9,
        client_max_window_bits=10,
    )
    assert Terms.wanted(options) == Terms(True, True, 9, 10)


# -- unknown ones ----------------------------------------------------------------


def handler(client):
    """Never called."""


CALLS = {
    "connect": functools.partial(ws.connect, "ws://127.0.0.1:1/"),
    "pair": functools.partial(ws.pair),
    "reconnecting": functools.partial(ws.reconnecting, "ws://127.0.0.1:1/"),
    "Server": functools.partial(ws.Server, handler, port=0),
    "serve": functools.partial(ws.serve, handler, port=0),
    "websocket": functools.partial(ws.Routes().websocket, "/", handler),
    "Middleware": functools.partial(wsgi.Middleware, handler, ws.Routes()),
    "accept": functools.partial(wsgi.accept, {}),
    "get": functools.partial(ws.Routes().get, "/", handler),
    "post": functools.partial(ws.Routes().post, "/", handler),
    "put": functools.partial(ws.Routes().put, "/", handler),
    "patch": functools.partial(ws.Routes().patch, "/", handler),
    "delete": functools.partial(ws.Routes().delete, "/", handler),
    "static": functools.partial(ws.Routes().static, "/", "."),
}


@looped(
    ("call", "name", "advice"),
    [
        # Typos, in every call.
        ("connect", "ping_intervall", ": did you mean 'ping_interval'?"),
        ("Server", "max_conections", ": did you mean 'max_connections'?"),
        ("serve", "Compression", ": did you mean 'compression'?"),
        ("serve", "redy", ": did you mean 'ready'?"),
        ("websocket", "binary_typ", ": did you mean 'binary_type'?"),
        ("get", "corse", ": did you mean 'cors'?"),
        ("post", "authorise", ": did you mean 'authorize'?"),
        ("static", "header", ": did you mean 'headers'?"),
        ("websocket", "origin_s", ": did you mean 'origins'?"),
        ("connect", "subprotocol", ": did you mean 'subprotocols'?"),
        ("connect", "header", ": did you mean 'headers'?"),
        # Names that other libraries have for it.
        ("connect", "extra_headers", ": write headers=..."),
        ("connect", "additional_headers", ": write headers=..."),
        ("connect", "max_size", ": write max_message_size=..."),
        ("connect", "open_timeout", ": write timeout=..."),
        ("Server", "open_timeout", ": write handshake_timeout=..."),
        ("connect", "sslopt", ": write ssl_context=..."),
        ("serve", "ssl", ": write ssl_context=..."),
        ("serve", "workers", ": write processes=..."),
        ("Server", "uds", ": write unix=..."),
        ("serve", "fd", ": write sock=..."),
        ("Server", "processes", ": it is an option of serve()"),
        ("connect", "sockopt", ": write socket_options=[...]"),
        ("connect", "http_proxy_host", ": write proxy=..."),
        ("connect", "cookie", ": write cookies={...}"),
        ("Server", "origin", ": write origins=[...]"),
        ("connect", "verify", ": write ssl_context=..."),
        ("serve", "ssl_keyfile", ": write ssl_context=..."),
        ("connect", "ssl_options", ": write ssl_context=..."),
        ("connect", "auth", ": write headers=..."),
        ("Server", "auth", ": write authorize=..."),
        ("Server", "process_request", ": write authorize=..."),
        ("connect", "max_payload_size", ": write max_message_size=..."),
        ("connect", "server_header", ""),  # and not server_hostname, which is another thing
        ("Server", "proxy", ": it is an option of connect(), reconnecting()"),
        # Options of another call.
        ("connect", "origins", ": it is an option of Server(), serve(), websocket()"),
        ("Server", "ready", ": it is an option of serve()"),
        ("websocket", "max_connections", ": it is an option of Server(), serve()"),
        ("delete", "origins", ": it is an option of Server(), serve(), websocket()"),
        # Nothing comes near.
        ("connect", "frobnicate", ""),
        ("connect", "on_message", ""),
        ("Server", "extra_headers", ""),
    ],
)
def test_an_unknown_option_names_itself_and_the_nearest_right_one(call, name, advice):
    with pytest.raises(TypeError) as caught:
        CALLS[call](**{name: 1})
    said, _, where = str(caught.value).partition(" (see help(")
    assert said == f"{call}() takes no option {name!r}{advice}"
    described = functools.reduce(getattr, where.removesuffix("))").split(".")[1:], ws)
    assert described.__doc__ or described.__init__.__doc__


def test_what_is_wrong_with_the_options_of_the_setup_script_is_said_likewise():
    with pytest.raises(TypeError, match=r"^websocket\(\) takes no option 'max_mesage_size': did"):
        runtime.http.websocket("/unknown", handler, max_mesage_size=1)
    assert runtime.http.table().websocket("/unknown") is None


def test_what_other_libraries_call_it_is_no_option_here_and_leads_to_one():
    known = set().union(*_unknown._TAKEN.values())
    for name, texts in _unknown._ELSEWHERE.items():
        wanted = {text.partition("=")[0] for text in texts}
        calls = [taken for taken in _unknown._TAKEN.values() if wanted & set(taken)]
        assert not [taken for taken in calls if name in taken]
        assert {text.partition("=")[0] for text in texts} <= known


# -- one list of them --------------------------------------------------------------


def types(of):
    """The type of each name, as the source has it."""
    if typing.is_typeddict(of):
        return {name: kind.__forward_arg__ for name, kind in of.__annotations__.items()}
    if of is Options:
        return dict(of.__annotations__)
    parameters = inspect.signature(of).parameters.values()
    return {p.name: p.annotation for p in parameters if p.kind is not p.VAR_KEYWORD}


def without(mapping, *names):
    return {key: value for key, value in mapping.items() if key not in names}


def test_the_options_of_a_connection_have_one_list_of_names_and_types():
    assert types(ws.ConnectionOptions) == without(types(Options), *DECIDE)


@pytest.mark.parametrize(
    ("call", "options", "base", "more"),
    [
        (ws.connect, ws.ClientOptions, ws.ConnectionOptions, {"url", "timeout", "headers"}),
        (ws.pair, ws.PairOptions, ws.ConnectionOptions, {"url", "headers"}),
        (ws.reconnecting, ws.ReconnectingOptions, ws.ClientOptions, {"url", "timeout", "headers"}),
        (ws.Server, ws.ServerOptions, ws.RouteOptions, {"handler", "host", "port"}),
    ],
)
def test_the_options_of_a_call_are_its_parameters(call, options, base, more):
    extra = more | {*DECIDE, "path", "routes"}
    assert without(types(call), *extra) == without(types(options), *types(base))


def test_every_call_knows_what_it_takes():
    own = {name: set(types(call.func)) for name, call in CALLS.items()}
    own["serve"] |= own["Server"]
    taken = {name: set(names) for name, names in _unknown._TAKEN.items()}
    client, route = set(types(ws.ClientOptions)), set(types(ws.RouteOptions))
    assert taken == {
        "connect": own["connect"] | client,
        "reconnecting": own["reconnecting"] | client,
        "pair": own["pair"] | set(types(ws.PairOptions)),
        "Server": own["Server"] | route | DECIDE,
        "serve": own["serve"] | route | DECIDE,
        "websocket": own["websocket"] | route | DECIDE,
        "Middleware": own["Middleware"] | route,
        "accept": own["accept"] | route | DECIDE,
        **{
            name: own[name] | set(types(ws.PageOptions))
            for name in ("get", "post", "put", "patch", "delete", "static")
        },
    }
    assert types(asgi.Middleware) == types(wsgi.Middleware)
    for name in DECIDE:
        default = inspect.signature(ws.connect).parameters[name].default
        assert default is getattr(Options(), name)


@pytest.mark.parametrize(
    "options",
    [
        ws.ConnectionOptions,
        ws.ClientOptions,
        ws.ReconnectingOptions,
        ws.RouteOptions,
        ws.PageOptions,
        ws.PairOptions,
        ws.ServerOptions,
    ],
)
def test_the_types_can_be_looked_up(options):
    assert set(typing.get_type_hints(options)) == set(options.__annotations__)
    assert not options.__required_keys__


def test_each_option_is_described_with_its_default():
    _, _, text = inspect.cleandoc(ws.ConnectionOptions.__doc__).partition("Attributes:\n")
    described = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", text, re.M))
    assert list(described) == list(ws.ConnectionOptions.__annotations__)
    for name, default in vars(Options()).items():
        if name not in DECIDE and not described[name].startswith("The same"):
            large = name in ("max_message_size", "max_backlog")
            size = f"{default // MIB} MiB" if large else None
            shown = size or (f"{default:,g}" if type(default) in (int, float) else str(default))
            said = " ".join(described[name].split())
            assert f"default {shown}" in said or f"{shown} (the default)" in said, name


def test_a_connection_can_be_annotated_with_its_type_of_binary_message():
    def fast(client: ws.Connection[bytes]) -> None: ...

    def texts(client: ws.Connection[list[int], bytes]) -> None: ...

    for function, arguments in ((fast, (bytes,)), (texts, (list[int], bytes))):
        (kind, _) = typing.get_type_hints(function).values()
        assert typing.get_origin(kind) is ws.Connection
        assert typing.get_args(kind) == arguments
