"""Options as text: what `-o NAME=VALUE` of the command line stands for.

Rules:

- An option's type is that of `ServerOptions` or `ReconnectingOptions`, where type checkers have it
  from. Its range is checked where that of a caller's value is, by `serve` or `connect`.
- A list is written with commas, or by naming the option several times; a dict by naming it for each
  entry, as `Name: value`, without a value for None. `none` is None for these too, not a list with
  it: `allowed_hosts=none` would refuse every request. All others are named once.
- What has no text (`ssl_context`) has an argument of its own, or is for programs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from ._options import ReconnectingOptions, ServerOptions
from ._unknown import check_names

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["parse_options"]

_NONE: Final = "none"
_WORDS: Final = {"true": True, "false": False}
_TYPES: Final = {"list": list, "bytes": bytes, "str": str}
_SERVERS: Final = {
    "ssl_context": "--tls-cert and --tls-key",
    "engine": "--engine",
    "host": "--server",
    "port": "--server",
    "sock": "--fd",
    "unix": "--server unix:PATH",
    "unix_mode": "--unix-mode",
    "unix_owner": "--unix-owner",
    "processes": "--processes",
    "reload_timeout": "--reload-timeout",
    "handler": "the setup script",
    "path": "the setup script",
    "routes": "the setup script",
    "dumps": "the setup script",
    "loads": "the setup script",
    "ready": "the setup script",
}
_PROGRAM: Final = "a program"
_CLIENTS: Final = {
    "url": "the URL",
    "timeout": "--timeout",
    "headers": "-H",
    "binary_type": "--binary",
    "text_type": _PROGRAM,
    "dumps": _PROGRAM,
    "loads": _PROGRAM,
    "proxy": "--proxy",
    "ssl_context": "--cacert, --cert and --insecure",
    "proxy_ssl_context": "--cacert, --cert and --insecure",
    "sock": _PROGRAM,
    "socket_options": _PROGRAM,
    "final": _PROGRAM,
}
_SUCH_AS: Final = {
    "serve": "max_requests=8",
    "connect": "max_message_size=none",
    "reconnecting": "max_tries=8",
}
# Of each call the types of its options, and what is not said by -o.
_CALLS: Final = {
    "serve": (ServerOptions, _SERVERS),
    "connect": (ReconnectingOptions, _CLIENTS),
    "reconnecting": (ReconnectingOptions, _CLIENTS),
}


def parse_options(texts: Iterable[str], call: str = "serve") -> dict[str, Any]:
    """The options that a command line names, by name, with their values.

    Args:
        texts: Each as `name=value`.
        call: What they are for: "serve", "connect" or "reconnecting".

    Raises:
        TypeError: there is no such option.
        ValueError: a text is malformed, not of the option's type, or another one's again.
    """
    described, elsewhere = _CALLS[call]
    hints = {
        **get_type_hints(described),
        "binary_type": Literal["list", "bytes"],
        "text_type": Literal["str", "bytes"],
    }
    result: dict[str, Any] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not mark or not name:
            raise ValueError(
                f"{text!r} is not an option: write NAME=VALUE, such as {_SUCH_AS[call]}"
            )
        check_names(call, [name])
        if name in elsewhere:
            raise ValueError(f"{name} is set by {elsewhere[name]}")
        kinds = _kinds(hints[name])
        none = NoneType in kinds and value.strip().lower() == _NONE
        if none or not {dict, list} & {*kinds}:
            if name in result:
                raise ValueError(f"{name} is there twice")
            result[name] = _value(name, kinds, value.strip())
        elif result.setdefault(name, {} if dict in kinds else []) is None:
            raise ValueError(f"{name} is there twice")
        elif dict in kinds:
            field, colon, content = value.partition(":")
            if not colon:
                raise ValueError(f"{name} is written as {name}=NAME: VALUE, not {value!r}")
            result[name][field.strip()] = content.strip() or None
        else:
            result[name].extend(filter(None, map(str.strip, value.split(","))))
    for name in result.keys() & {"binary_type", "text_type"}:
        result[name] = _TYPES[result[name]]
    return result


def _kinds(hint: Any) -> list[Any]:
    """What an option may be: types, `list` for any iterable, and the texts of a Literal."""
    if get_origin(hint) in (Union, UnionType):
        return [kind for part in get_args(hint) for kind in _kinds(part)]
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if get_origin(hint) is Mapping:
        return [dict]
    if get_origin(hint) in (Callable, PathLike, tuple):
        return []  # which has no text, unless its name may be given, or its path
    return [list] if get_origin(hint) is not None else [hint]


def _value(name: str, kinds: list[Any], text: str) -> Any:
    word = text.lower()
    if NoneType in kinds and word == _NONE:
        return None
    if text in kinds:
        return text
    if bool in kinds and word in _WORDS:
        return _WORDS[word]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                break
    if str in kinds:
        return text
    raise ValueError(f"{name} has to be {' or '.join(map(_named, kinds))}, not {text!r}")


def _named(kind: Any) -> str:
    names = {NoneType: "none", bool: "true or false", int: "a whole number", float: "a number"}
    return names.get(kind, str(kind))
