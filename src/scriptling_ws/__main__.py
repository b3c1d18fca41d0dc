"""The command line: `scriptling-ws`, and `python -m scriptling_ws`.

    scriptling-ws --server :8080 -L examples/chat examples/chat/setup.py
    scriptling-ws demo

Rules:

- A port alone listens on the loopback address: a server that the network can
  reach is spelled out, `0.0.0.0:8080` or `[::]:8080`.
- The setup script is code that the user starts, like any script: its own directory
  and those of -L are on the module path.
- What the user can put right is one line on stderr, behind the usage if it is about the
  arguments' form, and exit status 2; an exception
  in the setup script is a traceback and 1; Ctrl-C and SIGTERM are a clean end, 0.
"""

# ruff: noqa: PTH112, PTH113 - Path's raise for a name that is too long, or out of reach

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import runpy
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import _frame
from ._server import Server, serve
from ._version import __version__
from .runtime import http

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_LOOPBACK = "127.0.0.1"
_SETUP_NAME = "__setup__"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command's arguments, those of the process by default.

    Returns:
        The exit status.

    Raises:
        SystemExit: after --help and --version, and with 2 for what the user can
            put right; the setup script may raise its own.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0] == "demo":
        return _demo(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.server is None:
        parser.error("say where to listen and what to run: --server [HOST]:PORT setup.py")
    if options.script is None:
        parser.error("name the setup script, which registers the routes")
    return _serve(parser, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scriptling-ws",
        description="Serve the WebSocket endpoints and pages that a setup script registers "
        "with scriptling.runtime.http; Ctrl-C or SIGTERM ends it.",
        epilog="'scriptling-ws demo' shows the library's calls at work.",
    )
    parser.add_argument(
        "--server",
        metavar="[HOST]:PORT",
        help="where to listen; ':8080' is this machine only, '0.0.0.0:8080' or '[::]:8080' "
        "is open to the network, port 0 is any that is free",
    )
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
        "--version",
        action="version",
        version=f"scriptling-ws {__version__} ({_frame.IMPLEMENTATION} codec)",
    )
    parser.add_argument(
        "script",
        nargs="?",
        metavar="setup.py",
        help="the setup script; looked for in the -L directories first",
    )
    return parser


def _demo(arguments: list[str]) -> int:
    argparse.ArgumentParser(
        prog="scriptling-ws demo",
        description="Start a server on a free port and show the library's calls at work.",
    ).parse_args(arguments)
    from . import _demo  # nothing else needs the client

    return _demo.main() or 0


def _serve(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    host, port = _address(parser, options.server)
    context = _context(parser, options.tls_cert, options.tls_key)
    script = _find(parser, options.script, options.libraries)
    _extend_path(parser, script, options.libraries)
    sys.argv = [str(script)]
    runpy.run_path(str(script), run_name=_SETUP_NAME)
    # After the script: if it has set up logging, this changes nothing.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if not http.table():
        _fail(parser, f"{script} registers no route: call runtime.http.websocket(path, handler)")
    try:
        serve(None, host, port, routes=http, ssl_context=context, ready=_announce)
    except OSError as error:
        _fail(parser, error.strerror or str(error))
    except ValueError as error:
        _fail(parser, str(error))
    return 0


def _announce(server: Server) -> None:
    with contextlib.suppress(OSError):  # nobody reads it: no reason not to serve
        print(f"scriptling-ws: listening on {server.url} (Ctrl-C ends it)", flush=True)


def _address(parser: argparse.ArgumentParser, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        _fail(parser, f"--server {text!r} has no port: write :8080 or 127.0.0.1:8080")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        _fail(parser, f"--server {text!r}: the port has to be 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        _fail(parser, f"--server {text!r}: write an IPv6 address in brackets, [::1]:8080")
    return host or _LOOPBACK, int(port)


def _context(
    parser: argparse.ArgumentParser, certificate: str | None, key: str | None
) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            _fail(parser, "--tls-key needs --tls-cert")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # an ssl.SSLError too
        _fail(parser, f"cannot use --tls-cert {certificate!r} and its key: {error}")
    return context


def _find(parser: argparse.ArgumentParser, name: str, libraries: list[str]) -> Path:
    """The setup script: in a -L directory, or else where it is said to be.

    In this order, so that `-L examples/chat setup.py` is the example's script also from
    the root of a checkout, which has a setup.py of its own.
    """
    candidates = (*(Path(library, name) for library in libraries), Path(name))
    script = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
    if script is None:
        _fail(parser, f"there is no file {name!r}")
    try:
        script.open("rb").close()
    except OSError as error:
        _fail(parser, f"cannot read {name!r}: {error.strerror}")
    return script.resolve()


def _extend_path(parser: argparse.ArgumentParser, script: Path, libraries: list[str]) -> None:
    for library in libraries:
        if not os.path.isdir(library):
            _fail(parser, f"-L {library!r} is not a directory")
    own = [str(script.parent), *(str(Path(library).resolve()) for library in libraries)]
    sys.path[:0] = list(dict.fromkeys(own))


def _fail(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.exit(2, f"{parser.prog}: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
