"""The arguments of `scriptling-ws --server`, and of the command as a whole."""

from __future__ import annotations

import argparse

from .. import _kernel as kernel
from .._server.access import FORMATS
from .._server.master import RELOAD_TIMEOUT
from .._version import __version__

__all__ = ["server_parser"]

_EPILOG = (
    "Other forms: 'scriptling-ws connect URL', or just 'scriptling-ws ws://...', talks to a "
    "server; 'scriptling-ws examples' has programs to start from; 'scriptling-ws demo' shows the "
    "library's calls at work; 'scriptling-ws completion bash' (or zsh) completes these words in a "
    "shell. Without arguments it shows what there is."
)


def server_parser() -> argparse.ArgumentParser:
    """The parser of `scriptling-ws --server ... setup.py`."""
    parser = argparse.ArgumentParser(
        prog="scriptling-ws",
        description="Serve the WebSocket endpoints and pages that a setup script registers "
        "with scriptling.runtime.http; Ctrl-C or SIGTERM ends it.",
        epilog=_EPILOG,
    )
    _add_where(parser)
    _add_processes(parser)
    _add_what(parser)
    _add_log_and_engine(parser)
    parser.add_argument(
        "--version",
        action="version",
        version=f"scriptling-ws {__version__} ({kernel.IMPLEMENTATION} codec)",
    )
    parser.add_argument(
        "script",
        nargs="?",
        metavar="setup.py",
        help="the setup script; a name without a directory is looked for in the -L "
        "directories first",
    )
    return parser


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="[HOST]:PORT",
        help="where to listen; ':8080' is this machine only, '0.0.0.0:8080' or '[::]:8080' "
        "is open to the network, '0.0.0.0,[::]:8080' to both families; port 0 is any that is free; "
        "'unix:PATH' is a Unix socket",
    )
    parser.add_argument(
        "--fd",
        dest="descriptors",
        metavar="N",
        type=int,
        action="append",
        default=[],
        help="in place of --server, the number of a listening socket that the command was started "
        "with; may be repeated; sockets of a systemd .socket unit need no argument",
    )
    parser.add_argument(
        "--unix-mode", metavar="MODE", help="the mode of the Unix socket's file (600), such as 660"
    )
    parser.add_argument(
        "--unix-owner", metavar="USER:GROUP", help="its owner; 'USER' or ':GROUP' will do"
    )


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="serve with so many worker processes; those that fall are replaced, and SIGHUP "
        "reloads the code without refusing a connection",
    )
    parser.add_argument(
        "--reload-timeout",
        metavar="SECONDS",
        type=float,
        help=f"for how long connections go on after such a reload ({RELOAD_TIMEOUT})",
    )


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-L",
        dest="libraries",
        metavar="DIR",
        action="append",
        default=[],
        help="a directory to import handlers from, besides the script's own; may be repeated",
    )
    parser.add_argument(
        "--tls-cert", metavar="FILE", help="a certificate chain (PEM): serve wss://"
    )
    parser.add_argument("--tls-key", metavar="FILE", help="its key, unless it is in the same file")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an option of the server, such as allowed_hosts=example.com (lists with commas), "
        "max_connections=500 or ping_interval=none; may be repeated; help(scriptling_ws.Server) "
        "describes them",
    )


def _add_log_and_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--access-log",
        metavar="FILE",
        help="write a line for each request to a file, or with '-' to the standard output; a file "
        "that logrotate has moved is opened anew",
    )
    parser.add_argument(
        "--access-log-format",
        choices=FORMATS,
        help="the form of these lines: those of web servers (combined by default), or JSON",
    )
    parser.add_argument(
        "--engine",
        choices=("threads", "gevent"),
        help="what handlers run on: threads, the default, or greenlets (needs gevent)",
    )
    parser.add_argument(
        "--patch",
        action="store_true",
        help="have gevent patch the standard library first, so that handlers that wait by its "
        "calls (time.sleep, sockets, queues) let the others run; with it --engine is gevent",
    )
