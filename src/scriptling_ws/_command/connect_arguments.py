"""The arguments of `scriptling-ws connect`."""

from __future__ import annotations

import argparse
from typing import Final

from .binary_forms import FORMS

__all__ = ["connect_parser"]

_EPILOG: Final = (
    "On a terminal a line that begins with / is a command: /help lists them, //text sends /text. "
    "Exit status: 0 a normal end; 1 a file or the standard output cannot be used; 2 usage; 3 no "
    "connection; 4 refused by an HTTP status; 5 timeout; 6 closed with another code than 1000; 7 "
    "lost without a close; 129 SIGHUP; 130 Ctrl-C; 141 nobody reads the output; 143 SIGTERM."
)


def connect_parser() -> argparse.ArgumentParser:
    """The parser of `scriptling-ws connect URL`."""
    parser = argparse.ArgumentParser(
        prog="scriptling-ws connect",
        description="Talk to a WebSocket server: on a terminal by hand, in a pipe with one message "
        "a line, both ways. 'scriptling-ws ws://...' is short for it.",
        epilog=_EPILOG,
    )
    parser.add_argument("url", metavar="URL", help="such as wss://example.com/feed")
    _add_asked(parser)
    _add_tls(parser)
    _add_messages(parser)
    _add_course(parser)
    return parser


def _seconds(text: str) -> float | None:
    """A number of seconds, or "none"."""
    if text.lower() == "none":
        return None
    seconds = float(text)
    if not seconds >= 0:
        raise ValueError
    return seconds


_seconds.__name__ = "number of seconds"  # argparse: "invalid number of seconds value"


def _add_asked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-H",
        "--header",
        dest="headers",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="a header of the request; @FILE takes a file's lines, so that no secret is among the "
        "arguments, which other users can see; may be repeated",
    )
    parser.add_argument(
        "-o",
        dest="options",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an option of scriptling_ws.connect, such as subprotocols=chat, compression=deflate, "
        "max_redirects=5 or ping_interval=none; may be repeated",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="for opening the connection (10); none to wait for ever",
    )
    parser.add_argument(
        "--proxy",
        metavar="URL",
        help="http://, https://, socks5h:// and the like; 'env' takes the environment's",
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cacert", metavar="FILE", help="the certificates to trust (PEM), not the system's"
    )
    parser.add_argument("--cert", metavar="FILE", help="a certificate to show the server (PEM)")
    parser.add_argument("--key", metavar="FILE", help="its key, unless it is in the same file")
    parser.add_argument(
        "--insecure", action="store_true", help="trust any certificate: for tests alone"
    )


def _add_messages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--binary",
        metavar="FORM",
        choices=FORMS,
        default="hex",
        help="how binary messages are written and typed: hex (the default), base64, list, or raw, "
        "which is for pipes alone and puts nothing between them",
    )
    parser.add_argument(
        "--send-binary",
        action="store_true",
        help="lines of the input are binary messages in that form, not text",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="messages are JSON: what is sent is checked, what comes is indented and coloured on a "
        "terminal, and one line each in a pipe",
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write what comes to a file as it is, of any size, and do not show it",
    )
    parser.add_argument(
        "--send-file",
        metavar="FILE",
        help="send a file of any size as one binary message, in place of the input; '-' is the "
        "standard input",
    )
    parser.add_argument("--text", action="store_true", help="--send-file sends text (UTF-8)")


def _add_course(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="end after one message has come")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=_seconds,
        default=...,
        help="how long a silence ends it, once the input has ended (1; with --once none, which is "
        "without end); 0 ends it at once",
    )
    parser.add_argument(
        "--reconnect",
        action="store_true",
        help="connect again when the connection has ended; -o max_tries=8 and the like say how",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="no line editing and no history, also where prompt_toolkit is installed",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show the server's answer to the upgrade"
    )
