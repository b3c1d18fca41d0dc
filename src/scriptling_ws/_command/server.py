"""`scriptling-ws --server ... setup.py`: a server from a setup script.

    scriptling-ws --server :8080 -L examples/chat examples/chat/setup.py
    scriptling-ws --server :8080 -o allowed_hosts=example.com -o max_connections=500 setup.py
    scriptling-ws --server :8080 --processes 4 setup.py

Rules:

- Where it listens is said by `where`, what the script is by `script`.
- What a program gives `serve` by name is `-o NAME=VALUE` here (`_typed`).
- With --processes the script runs in each worker, and nowhere else: see `workers`.
- SIGHUP reloads what there is to reload: the workers, or the certificate. Else it ends the server.
- A folder that is served and has the script, the key or the log in it is told of.
- What the user can put right is one line on stderr, behind the usage if it is about the
  arguments' form, and exit status 2; an exception in the setup script is a traceback and 1; Ctrl-C
  and SIGTERM are a clean end, 0.
"""

from __future__ import annotations

import logging
import runpy
import sys
from typing import TYPE_CHECKING, Any

from .._network.waiting import choose
from .._network.waiting import patch as patch_by_gevent
from .._server.access import log_to
from .._server.server import Server
from .._server.service import run_until_stopped
from .._typed import parse_options
from ..runtime import http
from .announcing import announce
from .certificate import load_certificate
from .failing import fail, told
from .script import extend_path, find_script, warn_of_readers
from .server_arguments import server_parser
from .where import parse_where

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable

__all__ = ["main"]

_logger = logging.getLogger("scriptling_ws.server")

_SETUP_NAME = "__setup__"
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def main(arguments: list[str]) -> int:
    """Serve what a setup script registers, until a signal; the exit status."""
    parser = server_parser()
    options = parser.parse_args(arguments)
    where = _where(parser, options)
    if options.script is None:
        parser.error("name the setup script, which registers the routes")
    given = _options(parser, options.options)
    tls = [_context(parser, options.tls_cert, options.tls_key)]
    script = find_script(parser, options.script, options.libraries)
    extend_path(parser, script, options.libraries)
    sys.argv = [str(script)]

    def run_script(format_: str) -> None:
        given["engine"] = _engine(parser, options.engine, patch=options.patch)
        runpy.run_path(str(script), run_name=_SETUP_NAME)
        # After the script: if it has set up logging, this changes nothing.
        logging.basicConfig(level=logging.INFO, format=format_)
        _log_access(parser, options, given)
        if not http.table():
            fail(parser, f"{script} registers no route: call runtime.http.websocket(path, handler)")
        warn_of_readers(script, options.tls_key or options.tls_cert, options.access_log)

    if options.processes is not None:
        from .workers import serve_with_processes  # one process needs none of it

        return serve_with_processes(parser, options, where, given, tls, run_script)
    run_script(_FORMAT)
    renew = None if options.tls_cert is None else _renewal(options.tls_cert, options.tls_key)
    with told(parser):
        server = Server(None, routes=http, ssl_context=tls[0], **where, **given)
        run_until_stopped(server, announce, renew)
    return 0


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
            fail(parser, "--patch is for greenlets: leave --engine threads out")
        try:
            patch_by_gevent()
        except ImportError:
            fail(parser, "--patch needs gevent: pip install 'scriptling-ws[gevent]'")
        name = "gevent"
    if name is not None:
        try:
            choose(name)
        except (ImportError, RuntimeError) as error:
            fail(parser, str(error))
    return name


def _where(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    if options.reload_timeout is not None and options.processes is None:
        fail(parser, "--reload-timeout needs --processes")
    with told(parser):
        where = parse_where(
            options.server, options.descriptors, options.unix_mode, options.unix_owner
        )
    if not where:
        parser.error(
            "say where to listen and what to run: --server [HOST]:PORT setup.py; or, to talk to a "
            "server, where that is: ws://HOST:PORT/"
        )
    return where


def _context(
    parser: argparse.ArgumentParser, certificate: str | None, key: str | None
) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            fail(parser, "--tls-key needs --tls-cert")
        return None
    try:
        return load_certificate(certificate, key)
    except ValueError as error:
        fail(parser, str(error))


def _options(parser: argparse.ArgumentParser, texts: list[str]) -> dict[str, Any]:
    try:
        return parse_options(texts)
    except (TypeError, ValueError) as error:
        fail(parser, f"-o: {error}")


def _log_access(
    parser: argparse.ArgumentParser, options: argparse.Namespace, given: dict[str, Any]
) -> None:
    """Have the access log in a file of its own, where that is asked for."""
    name, form = options.access_log, options.access_log_format
    if name is None:
        if form is not None:
            fail(parser, "--access-log-format needs --access-log")
        return
    given["access_log"] = form or given.get("access_log") or "combined"
    try:
        log_to(name)
    except OSError as error:
        fail(parser, f"cannot write --access-log {name!r}: {error.strerror}")
