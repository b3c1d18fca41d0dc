"""The command line: `scriptling-ws`, and `python -m scriptling_ws`.

    scriptling-ws --server :8080 -L examples/chat examples/chat/setup.py
    scriptling-ws --server :8080 -o allowed_hosts=example.com -o max_connections=500 setup.py
    scriptling-ws --server :8080 --processes 4 setup.py
    scriptling-ws demo

Rules:

- Where it listens is said by `_where`.
- The setup script is code that the user starts, like any script: its own directory
  and those of -L are on the module path.
- What a program gives `serve` by name is `-o NAME=VALUE` here (`_typed`).
- With --processes the script runs in each worker, and nowhere else: the master has none of its
  code, so that SIGHUP starts workers with what it is by then. The certificate is read by the
  master, which may ask for a password; so all workers can resume a TLS session of each other.
- SIGHUP reloads what there is to reload: the workers, or the certificate. Else it ends the server.
- A folder that is served and has the script, the key or the log in it is told of.
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
from ._network.deadline import check_timeout
from ._network.waiting import choose
from ._network.waiting import patch as patch_by_gevent
from ._options import check_count
from ._server.access import FORMATS, log_to
from ._server.endpoints import Endpoints
from ._server.master import RELOAD_TIMEOUT, serve_with_workers, wait_by_threads
from ._server.metrics import shared
from ._server.operations import time_to_end
from ._server.server import Server
from ._server.service import run_until_stopped
from ._server.worker import Link, attend
from ._typed import parse_options
from ._version import __version__
from ._where import parse_where
from .runtime import http

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["main"]

_logger = logging.getLogger("scriptling_ws.server")

_SETUP_NAME = "__setup__"
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_FORMAT_OF_WORKERS = "%(asctime)s [%(process)d] %(levelname)s %(message)s"


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
    where = _where(parser, options)
    if options.script is None:
        parser.error("name the setup script, which registers the routes")
    return _serve(parser, options, where)


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


def _serve(
    parser: argparse.ArgumentParser, options: argparse.Namespace, where: dict[str, Any]
) -> int:
    given = _options(parser, options.options)
    tls = [_context(parser, options.tls_cert, options.tls_key)]
    script = _find(parser, options.script, options.libraries)
    _extend_path(parser, script, options.libraries)
    sys.argv = [str(script)]

    def run_script(format_: str) -> None:
        given["engine"] = _engine(parser, options.engine, patch=options.patch)
        runpy.run_path(str(script), run_name=_SETUP_NAME)
        # After the script: if it has set up logging, this changes nothing.
        logging.basicConfig(level=logging.INFO, format=format_)
        _log_access(parser, options, given)
        if not http.table():
            _fail(
                parser, f"{script} registers no route: call runtime.http.websocket(path, handler)"
            )
        _warn(script, options.tls_key or options.tls_cert, options.access_log)

    if options.processes is not None:
        return _serve_with_workers(parser, options, where, given, tls, run_script)
    run_script(_FORMAT)
    renew = None if options.tls_cert is None else _renewal(options.tls_cert, options.tls_key)
    with _told(parser):
        server = Server(None, routes=http, ssl_context=tls[0], **where, **given)
        run_until_stopped(server, _announce, renew)
    return 0


def _serve_with_workers(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    where: dict[str, Any],
    given: dict[str, Any],
    tls: list[ssl.SSLContext | None],
    run_script: Callable[[str], None],
) -> int:
    """Be the master of workers that run the script.

    Args:
        parser: The command's.
        options: What it has parsed.
        where: Where to listen.
        given: The other options of the server.
        tls: The TLS settings, which a reload replaces.
        run_script: What a worker does before it serves.
    """
    reload_timeout = RELOAD_TIMEOUT if options.reload_timeout is None else options.reload_timeout
    with _told(parser):
        check_count("--processes", options.processes)
        check_timeout(reload_timeout, "--reload-timeout")
        ending = time_to_end(given)
        wait_by_threads()
        endpoints = Endpoints.open(**{"host": "", "port": 0, **where})
    secure = tls[0] is not None
    url = endpoints.url(secure=secure)
    # Whether the script has pages is the workers' to know.
    page_url = endpoints.page_url(secure=secure, root_path=given.get("root_path", ""))
    stop_logging = _log_of_the_master()

    def body(link: Link) -> None:
        stop_logging()  # so that the script can set it up
        run_script(_FORMAT_OF_WORKERS)
        with _told(parser):
            served = {**given, "sock": endpoints}
            server = Server(None, routes=http, ssl_context=tls[0], **served)
        http.server = server
        attend(server, link, reload_timeout)

    def renew() -> None:
        if options.tls_cert is not None:
            tls[0] = load_certificate(options.tls_cert, options.tls_key, ask=False)

    with _told(parser), shared(given.get("metrics")) as left:
        return serve_with_workers(
            endpoints,
            options.processes,
            body,
            shutdown_timeout=ending,
            reload_timeout=reload_timeout,
            renew=renew,
            announce=lambda: _say_where(url, page_url),
            left=left,
        )


@contextlib.contextmanager
def _told(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Tell the user what can be put right, and end."""
    try:
        yield
    except OSError as error:
        _fail(parser, error.strerror or str(error))
    except (ImportError, TypeError, ValueError) as error:
        _fail(parser, str(error))


def _log_of_the_master() -> Callable[[], None]:
    """Show the master's log; what ends that in a worker, which has its script's."""
    handler, logger = logging.StreamHandler(), logging.getLogger("scriptling_ws")
    handler.setFormatter(logging.Formatter(_FORMAT_OF_WORKERS))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)

    return stop


def _renewal(certificate: str, key: str | None) -> Callable[[Server], None]:
    """What reads a server's certificate anew, and leaves it as it is if that cannot be used."""

    def renew(server: Server) -> None:
        try:
            server.use_ssl_context(load_certificate(certificate, key, ask=False))
        except ValueError as error:
            _logger.error("the certificate stays as it was: %s", error)  # noqa: TRY400
        else:
            _logger.info("the certificate was read anew")

    return renew


def _engine(parser: argparse.ArgumentParser, name: str | None, *, patch: bool) -> str | None:
    """The engine that is asked for, chosen before the script can make a connection."""
    if patch:
        if name == "threads":
            _fail(parser, "--patch is for greenlets: leave --engine threads out")
        try:
            patch_by_gevent()
        except ImportError:
            _fail(parser, "--patch needs gevent: pip install 'scriptling-ws[gevent]'")
        name = "gevent"
    if name is not None:
        try:
            choose(name)
        except (ImportError, RuntimeError) as error:
            _fail(parser, str(error))
    return name


def _announce(server: Server) -> None:
    http.server = server
    _say_where(server.url, server.page_url if http.table().has_pages else "")


def _say_where(url: str, page_url: str) -> None:
    browser = f"in a browser {page_url}; " if page_url else ""
    with contextlib.suppress(OSError):  # nobody reads it: no reason not to serve
        print(f"scriptling-ws: listening on {url} ({browser}Ctrl-C ends it)", flush=True)


def _where(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    if options.reload_timeout is not None and options.processes is None:
        _fail(parser, "--reload-timeout needs --processes")
    with _told(parser):
        where = parse_where(
            options.server, options.descriptors, options.unix_mode, options.unix_owner
        )
    if not where:
        parser.error("say where to listen and what to run: --server [HOST]:PORT setup.py")
    return where


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


def _log_access(
    parser: argparse.ArgumentParser, options: argparse.Namespace, given: dict[str, Any]
) -> None:
    """Have the access log in a file of its own, where that is asked for."""
    name, form = options.access_log, options.access_log_format
    if name is None:
        if form is not None:
            _fail(parser, "--access-log-format needs --access-log")
        return
    given["access_log"] = form or given.get("access_log") or "combined"
    try:
        log_to(name)
    except OSError as error:
        _fail(parser, f"cannot write --access-log {name!r}: {error.strerror}")


def _warn(script: Path, key: str | None, log: str | None) -> None:
    """Tell of secrets that others can read: by the mode of their file, or from the server."""
    if key is not None and open_to_others(key):
        _logger.warning("other users can read or change the key %r: chmod 600 it", key)
    paths = [script, *(Path(name) for name in (key, log) if name and name != "-")]
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
