"""`scriptling-ws --server ... --processes N`: the master of workers that run the setup script.

The script runs in each worker, and nowhere else: the master has none of its code, so that SIGHUP
starts workers with what it is by then. The certificate is read by the master, which may ask for a
password; so all workers can resume a TLS session of each other.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._network.deadline import check_timeout
from .._options import check_count
from .._server.endpoints import Endpoints
from .._server.master import RELOAD_TIMEOUT, serve_with_workers, wait_by_threads
from .._server.metrics import shared
from .._server.operations import time_to_end
from .._server.server import Server
from .._server.worker import Link, attend
from ..runtime import http
from .announcing import say_where
from .certificate import load_certificate
from .failing import told

if TYPE_CHECKING:
    import argparse
    import ssl
    from collections.abc import Callable

__all__ = ["serve_with_processes"]

_FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(message)s"


def serve_with_processes(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    where: dict[str, Any],
    given: dict[str, Any],
    tls: list[ssl.SSLContext | None],
    run_script: Callable[[str], None],
) -> int:
    """Be the master of workers that run the script, until a signal; the exit status.

    Args:
        parser: The command's.
        options: What it has parsed.
        where: Where to listen.
        given: The other options of the server.
        tls: The TLS settings, which a reload replaces.
        run_script: What a worker does before it serves.
    """
    reload_timeout = RELOAD_TIMEOUT if options.reload_timeout is None else options.reload_timeout
    with told(parser):
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
        run_script(_FORMAT)
        with told(parser):
            served = {**given, "sock": endpoints}
            server = Server(None, routes=http, ssl_context=tls[0], **served)
        http.server = server
        attend(server, link, reload_timeout)

    def renew() -> None:
        if options.tls_cert is not None:
            tls[0] = load_certificate(options.tls_cert, options.tls_key, ask=False)

    with told(parser), shared(given.get("metrics")) as left:
        return serve_with_workers(
            endpoints,
            options.processes,
            body,
            shutdown_timeout=ending,
            reload_timeout=reload_timeout,
            renew=renew,
            announce=lambda: say_where(url, page_url),
            left=left,
        )


def _log_of_the_master() -> Callable[[], None]:
    """Show the master's log; what ends that in a worker, which has its script's."""
    handler, logger = logging.StreamHandler(), logging.getLogger("scriptling_ws")
    handler.setFormatter(logging.Formatter(_FORMAT))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level)

    return stop
