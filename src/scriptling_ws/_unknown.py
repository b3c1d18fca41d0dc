"""Options that a call does not take: each call refuses them, and names what is meant.

Rules:

- A call takes its own parameters and those of its TypedDict in `_options`: `tests/test_options.py`
  holds this list to the signatures.
- A name that another library has for an option, one of another call, and one that is nearly right
  each get the answer that helps. Python's own error would name none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._options import (
    ClientOptions,
    PageOptions,
    PairOptions,
    ReconnectingOptions,
    RouteOptions,
    ServerOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_names"]

_TYPES: Final = ("binary_type", "text_type")
_ASKED: Final = ("url", "timeout", "headers", *_TYPES)
_SERVED: Final = ("handler", "host", "port", "path", "routes", *_TYPES)
_EMBEDDED: Final = (
    "allowed_hosts",
    "max_connections",
    *_TYPES,
    *RouteOptions.__annotations__,
)
_PAGE_CALLS: Final = ("get", "post", "put", "patch", "delete")
# All that each call takes, and where that is described.
_TAKEN: Final = {
    "connect": (*_ASKED, *ClientOptions.__annotations__),
    "reconnecting": (*_ASKED, *ReconnectingOptions.__annotations__),
    "pair": ("url", "headers", *_TYPES, *PairOptions.__annotations__),
    "Server": (*_SERVED, *ServerOptions.__annotations__),
    "serve": (*_SERVED, "ready", "processes", "reload_timeout", *ServerOptions.__annotations__),
    "websocket": ("path", "handler", *_TYPES, *RouteOptions.__annotations__),
    "Middleware": ("application", "routes", *_EMBEDDED),
    "accept": ("environ", *_EMBEDDED),
    **dict.fromkeys(_PAGE_CALLS, ("path", "handler", *PageOptions.__annotations__)),
    "static": ("path", "directory", "headers", "fallback", *PageOptions.__annotations__),
}
_DESCRIBED: Final = {
    "connect": "connect",
    "reconnecting": "reconnecting",
    "pair": "pair",
    "Server": "Server",
    "serve": "Server",
    "websocket": "Routes.websocket",
    "Middleware": "wsgi.Middleware",
    "accept": "wsgi.accept",
    **{name: f"Routes.{name}" for name in (*_PAGE_CALLS, "static")},
}
# What other libraries call it, and what it is here: the first that the call takes.
_ELSEWHERE: Final = {
    "additional_headers": ("headers=...",),
    "auth": ("authorize=...", "headers=..."),
    "ca_certs": ("ssl_context=...",),
    "cert": ("ssl_context=...",),
    "certfile": ("ssl_context=...",),
    "certificate": ("ssl_context=...",),
    "compress": ('compression="deflate"',),
    "cookie": ("cookies={...}",),
    "decode": ("text_type=bytes",),
    "deflate": ('compression="deflate"',),
    "extra_headers": ("headers=...",),
    "fd": ("sock=...",),
    "follow_redirects": ("max_redirects=...",),
    "forwarded_allow_ips": ("trusted_proxies=[...]",),
    "heartbeat": ("ping_interval=...",),
    "http_proxy_auth": ("proxy=...",),
    "http_proxy_host": ("proxy=...",),
    "http_proxy_port": ("proxy=...",),
    "keyfile": ("ssl_context=...",),
    "local_addr": ("source_address=...",),
    "max_frame_size": ("max_message_size=...",),
    "max_payload_size": ("max_message_size=...",),
    "max_queue": ("max_backlog=...",),
    "max_size": ("max_message_size=...",),
    "open_timeout": ("timeout=...", "handshake_timeout=..."),
    "origin": ("origins=[...]",),
    "per_message_deflate": ('compression="deflate"',),
    "process_request": ("authorize=...",),
    "proxy_type": ("proxy=...",),
    "redirect_limit": ("max_redirects=...",),
    "select_subprotocol": ("subprotocols=...",),
    "server_header": ("page_headers={...}",),
    "sockopt": ("socket_options=[...]",),
    "ssl": ("ssl_context=...",),
    "ssl_certfile": ("ssl_context=...",),
    "ssl_keyfile": ("ssl_context=...",),
    "ssl_options": ("ssl_context=...",),
    "sslopt": ("ssl_context=...",),
    "tls": ("ssl_context=...",),
    "uds": ("unix=...",),
    "user_agent_header": ("user_agent=...",),
    "verify": ("ssl_context=...",),
    "workers": ("processes=...",),
}
# Calls inside of other servers, which take what the others do.
_INSIDE: Final = ("Middleware", "accept")
_NEAR: Final = 0.7  # from here on names are alike, as difflib sees it


def check_names(call: str, options: Iterable[str]) -> None:
    """Check the names of the options that a call was given.

    Args:
        call: The call, without brackets.
        options: The names.

    Raises:
        TypeError: the call takes no such option; the text names the nearest that it takes.
    """
    taken = _TAKEN[call]
    for name in options:
        if name not in taken:
            raise TypeError(
                f"{call}() takes no option {name!r}{_advice(call, name)} "
                f"(see help(scriptling_ws.{_DESCRIBED[call]}))"
            )


def _advice(call: str, name: str) -> str:
    """What to write in place of an unknown option, as the middle of a sentence."""
    taken = _TAKEN[call]
    if name in _ELSEWHERE:
        texts = [text for text in _ELSEWHERE[name] if text.partition("=")[0] in taken]
        return f": write {texts[0]}" if texts else ""
    others = [f"{other}()" for other in _TAKEN if name in _TAKEN[other] and other not in _INSIDE]
    if others:
        return f": it is an option of {', '.join(others)}"
    from difflib import get_close_matches  # not needed before this

    near = get_close_matches(name.lower(), taken, 1, _NEAR)
    return f": did you mean {near[0]!r}?" if near else ""
