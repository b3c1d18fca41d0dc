"""The command line: `scriptling-ws`, and `python -m scriptling_ws`.

    scriptling-ws --server :8080 -L examples/chat examples/chat/setup.py
    scriptling-ws --server :8080 -o allowed_hosts=example.com -o max_connections=500 setup.py
    scriptling-ws demo

Rules:

- A port alone listens on the loopback address: a server that the network can
  reach is spelled out, `0.0.0.0:8080` or `[::]:8080`.
- The setup script is code that the user starts, like any script: its own directory
  and those of -L are on the module path.
- What a program gives `serve` by name is `-o NAME=VALUE` here (`_typed`).
- A folder that is served and has the script or the key in it is told of.
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
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import _kernel as kernel
from ._certificate import load_certificate, open_to_others
from ._network.waiting import choose
from ._server.server import Server, serve
from ._typed import parse_options
from ._version import __version__
from .runtime import http

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

__all__ = ["main"]

_logger = logging.getLogger("scriptling_ws.server")

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
        "-o",
        dest="options",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an option of the server, such as allowed_hosts=example.com (lists with commas), "
        "max_connections=500 or ping_interval=none; may be repeated; help(scriptling_ws.Server) "
        "describes them",
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


def _demo(arguments: list[str]) -> int:
    argparse.ArgumentParser(
        prog="scriptling-ws demo",
        description="Start a server on a free port and show the library's calls at work.",
    ).parse_args(arguments)
    from . import _demo  # nothing else needs the client

    return _demo.main() or 0


def _serve(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    host, port = _address(parser, options.server)
    given = _options(parser, options.options)
    given.setdefault("engine", _engine(parser, options.engine, patch=options.patch))
    context = _context(parser, options.tls_cert, options.tls_key)
    script = _find(parser, options.script, options.libraries)
    _extend_path(parser, script, options.libraries)
    sys.argv = [str(script)]
    runpy.run_path(str(script), run_name=_SETUP_NAME)
    # After the script: if it has set up logging, this changes nothing.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if not http.table():
        _fail(parser, f"{script} registers no route: call runtime.http.websocket(path, handler)")
    _warn(script, options.tls_key or options.tls_cert)
    try:
        serve(None, host, port, routes=http, ssl_context=context, ready=_announce, **given)
    except OSError as error:
        _fail(parser, error.strerror or str(error))
    except (TypeError, ValueError) as error:
        _fail(parser, str(error))
    return 0


def _engine(parser: argparse.ArgumentParser, name: str | None, *, patch: bool) -> str | None:
    """The engine that is asked for, chosen before the script can make a connection."""
    if patch:
        if name == "threads":
            _fail(parser, "--patch is for greenlets: leave --engine threads out")
        try:
            from gevent import monkey
        except ImportError:
            _fail(parser, "--patch needs gevent: pip install 'scriptling-ws[gevent]'")
        monkey.patch_all()
        name = "gevent"
    if name is not None:
        try:
            choose(name)
        except (ImportError, RuntimeError) as error:
            _fail(parser, str(error))
    return name


def _announce(server: Server) -> None:
    http.server = server
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
    try:
        return load_certificate(certificate, key)
    except ValueError as error:
        _fail(parser, str(error))


def _options(parser: argparse.ArgumentParser, texts: list[str]) -> dict[str, Any]:
    try:
        return parse_options(texts)
    except (TypeError, ValueError) as error:
        _fail(parser, f"-o: {error}")


def _warn(script: Path, key: str | None) -> None:
    """Tell of secrets that others can read: by the mode of their file, or from the server."""
    if key is not None and open_to_others(key):
        _logger.warning("other users can read or change the key %r: chmod 600 it", key)
    paths: list[Path | str] = [script] if key is None else [script, key]
    for path in paths:
        for folder in http.table().directories:
            if folder.serves(path):
                _logger.warning(
                    "%r is in the folder %r, which is served: anybody can read it; serve a "
                    "folder that has public files alone",
                    str(path),
                    folder.directory,
                )


def _find(parser: argparse.ArgumentParser, name: str, libraries: list[str]) -> Path:
    """The setup script: a bare name is looked for in the -L directories first.

    In this order, so that `-L examples/chat setup.py` is the example's script also from
    the root of a checkout, which has a setup.py of its own.
    """
    candidates = [Path(name)]
    if not os.path.dirname(name):  # noqa: PTH120 - "./setup.py" says where it is
        candidates[:0] = (Path(library, name) for library in libraries)
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
