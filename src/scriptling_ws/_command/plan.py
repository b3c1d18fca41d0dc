"""What the arguments of `connect` say, checked before a connection is made."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .._typed import parse_options
from .certificate import client_context
from .failing import fail, told

if TYPE_CHECKING:
    import argparse
    from types import EllipsisType

__all__ = ["Plan"]

_ANY_NUMBER: Final = 2**31 - 1  # of fragments: no more of a streamed message is in memory for them
_PLAIN: Final = ("ws:", "ws+unix:")


@dataclass(frozen=True)
class Plan:
    """The arguments of one run; `connect_arguments` describes them."""

    url: str
    timeout: float | None
    headers: list[tuple[str, str]]
    options: dict[str, Any]
    form: str
    as_json: bool
    send_binary: bool
    save: str | None
    send_file: str | None
    text: bool
    once: bool
    wait: float | EllipsisType | None
    reconnect: bool
    plain: bool
    verbose: bool

    @property
    def by_hand(self) -> bool:
        """Whether messages may be typed with line editing."""
        return not (self.plain or self.once or self.save or self.send_file or self.send_binary)

    @classmethod
    def of(cls, parser: argparse.ArgumentParser, arguments: list[str]) -> Plan:
        """Parse and check.

        Raises:
            SystemExit: with 2, where something cannot be; or after --help.
        """
        given = parser.parse_args(arguments)
        _check(parser, given)
        with told(parser):
            headers = [pair for text in given.headers for pair in _headers(text)]
            options = _options(given)
        wait = given.wait
        if given.once and wait is ...:
            wait = None
        return cls(
            url=given.url,
            timeout=given.timeout,
            headers=headers,
            options=options,
            form=given.binary,
            as_json=given.json,
            send_binary=given.send_binary,
            save=given.save,
            send_file=given.send_file,
            text=given.text,
            once=given.once,
            wait=wait,
            reconnect=given.reconnect,
            plain=given.plain,
            verbose=given.verbose,
        )


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Refuse arguments that do not go together."""
    if given.key is not None and given.cert is None:
        fail(parser, "--key needs --cert")
    if given.insecure and given.cacert is not None:
        fail(parser, "--insecure trusts any certificate, so that --cacert says nothing: leave one")
    if given.text and given.send_file is None:
        fail(parser, "--text says what --send-file sends: name a file")
    if given.send_binary and (given.json or given.send_file is not None):
        fail(parser, "--send-binary is for lines that are neither JSON nor a file")
    if given.binary == "raw" and given.send_binary:
        fail(parser, "raw bytes have no lines: send them with --send-file -")
    if given.binary == "raw" and given.json:
        fail(parser, "--json writes a line for each message, which raw bytes have not")
    if given.binary == "raw" and given.save is None and sys.stdout.isatty():
        fail(
            parser,
            "a peer's raw bytes are not for a terminal: name a file with --save, write to a pipe, "
            "or choose --binary hex",
        )
    if given.reconnect and given.send_file == "-":
        fail(parser, "the standard input cannot be sent again: name a file, or no --reconnect")


def _headers(text: str) -> list[tuple[str, str]]:
    """The headers of one -H.

    Raises:
        ValueError: it is none, or the file cannot be read.
    """
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"-H {text}: the file is no UTF-8 text") from None
        except OSError as error:
            raise ValueError(f"-H {text}: cannot read the file: {error.strerror}") from error
        return [pair for line in lines if line.strip() for pair in _header(line)]
    return _header(text)


def _header(text: str) -> list[tuple[str, str]]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("-H takes 'NAME: VALUE', or @FILE with such lines")  # it may be a secret
    return [(name.strip(), value.strip())]


def _options(given: argparse.Namespace) -> dict[str, Any]:
    """What `connect`, or `reconnecting`, is given by name."""
    call = "reconnecting" if given.reconnect else "connect"
    try:
        options = parse_options(given.options, call)
    except (TypeError, ValueError) as error:
        raise ValueError(f"-o: {error}") from error
    if given.proxy is not None:
        options["proxy"] = True if given.proxy == "env" else given.proxy
    if given.cacert or given.cert or given.insecure:
        if given.url.lower().startswith(_PLAIN) and not options.get("max_redirects"):
            name = "insecure" if given.insecure else "cacert" if given.cacert else "cert"
            raise ValueError(f"--{name} is for TLS, and the URL is ws://: use wss://")
        options["ssl_context"] = client_context(
            given.cacert, given.cert, given.key, insecure=given.insecure
        )
    if given.save is not None:  # what is streamed takes no memory
        options.setdefault("max_message_size", None)
        options.setdefault("max_fragments", _ANY_NUMBER)
    return options
