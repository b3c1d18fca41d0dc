"""The server: what it is made of, and its shutdown.

Rules:

- What comes in is decided in `entrance`, who answers it runs in `sessions`.
- Whatever a server starts ends with it: after `close`, no thread of it runs, except for a
  handler that goes on, and no descriptor of it is open. `close` waits for nothing
  without a deadline.
- `close` may be called from any thread, a handler's too, and more than once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from .._network.contexts import check_context
from .._network.deadline import Deadline, check_timeout
from .._network.fork import tell_after_fork
from .._network.unix import OWN_USER
from .._network.waiting import choose
from .._options import HeadLimits, check_count
from .._unknown import check_names
from .acceptor import Acceptor
from .access import make_access_log
from .arrival import PeerOptions
from .callers import BURST, Callers
from .closing import Closing
from .decisions import Decisions
from .endpoints import Endpoints
from .entrance import Entrance
from .http import page_headers_of
from .limits import Limits
from .operations import SHUTDOWN_TIMEOUT, Operations
from .persistence import KeepAlive
from .proxies import Proxies
from .root_path import RootPath
from .routes import Routes, make_table
from .service import run_until_stopped
from .sessions import Sessions, start_thread

if TYPE_CHECKING:
    import os
    import socket
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from typing_extensions import Unpack

    from .._connection.connection import Connection
    from .._network.contract import Task
    from .._options import ServerOptions
    from .route_table import BytesHandler, Handler, ListHandler, Utf8Handler

__all__ = ["Server"]

_logger = logging.getLogger("scriptling_ws.server")

# What the acceptor has to end, once its deadline has passed.
_MOMENT: Final = 1.0


class Server:
    """A WebSocket server that runs beside the program, from when it is made until `close`.

    Use it as a context manager, or call `close`. Safe for any number of threads.

    Attributes:
        port: The port that it listens on, 0 for a Unix socket.
        address: Where it listens, as text: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`;
            the first of several.
        url: The same as a URL: `ws://127.0.0.1:8080`, with TLS `wss://...`; for a Unix socket
            `ws+unix:///run/app.sock`.
        page_url: What a browser on this machine opens: `http://127.0.0.1:8080/`, below `root_path`;
            "" for a Unix socket.
    """

    @overload
    def __init__(
        self,
        handler: ListHandler | str | None = None,
        host: str | Iterable[str] = "127.0.0.1",
        port: int = 8080,
        *,
        path: str | None = None,
        routes: Routes | None = None,
        binary_type: type[list[int]] = list,
        text_type: type[str] = str,
        **options: Unpack[ServerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        handler: Utf8Handler | str | None = None,
        host: str | Iterable[str] = "127.0.0.1",
        port: int = 8080,
        *,
        path: str | None = None,
        routes: Routes | None = None,
        binary_type: type[list[int]] = list,
        text_type: type[bytes],
        **options: Unpack[ServerOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        handler: BytesHandler | str | None = None,
        host: str | Iterable[str] = "127.0.0.1",
        port: int = 8080,
        *,
        path: str | None = None,
        routes: Routes | None = None,
        binary_type: type[bytes],
        text_type: type[str] = str,
        **options: Unpack[ServerOptions],
    ) -> None: ...

    def __init__(
        self,
        handler: Handler | str | None = None,
        host: str | Iterable[str] = "127.0.0.1",
        port: int = 8080,
        *,
        path: str | None = None,
        routes: Routes | None = None,
        sock: socket.socket | Iterable[socket.socket] | Literal["systemd"] | None = None,
        unix: str | os.PathLike[str] | None = None,
        unix_mode: int = OWN_USER,
        unix_owner: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        allowed_hosts: Iterable[str] | None = None,
        max_connections: int | None = None,
        max_connections_per_address: int | None = None,
        max_connection_rate: float | None = None,
        max_connection_burst: int = BURST,
        trusted_proxies: Iterable[str] = (),
        proxy_protocol: bool = False,
        forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for",
        access_log: Literal["common", "combined", "json"] | None = None,
        max_requests: int = 64,
        max_body_size: int = PeerOptions.max_body_size,
        keep_alive_timeout: float = 75,
        max_keep_alive_requests: int = 1000,
        page_headers: Mapping[str, str | None] | None = None,
        root_path: str = "",
        handshake_timeout: float | None = 10,
        shutdown_timeout: float | None = SHUTDOWN_TIMEOUT,
        drain_timeout: float = 0,
        health: str | bool | None = None,
        metrics: str | bool | None = None,
        max_line_size: int = HeadLimits.max_line_size,
        max_headers: int = HeadLimits.max_headers,
        max_head_size: int = HeadLimits.max_head_size,
        engine: Literal["threads", "gevent"] | None = None,
        **options: Any,
    ) -> None:
        """Listen, and answer from now on. Blocks for the lookup of the host's name alone.

        Args:
            handler: A function, or its name as "library.function". It is called with each
                connection, on a thread of its own, and runs for the connection's life;
                the connection is closed when it returns.
            host: A name or an address of this machine, or a list of several; "0.0.0.0" or "::" for
                every address of a family, which opens the server to the network.
            port: The port of all of these, 0 for any that is free: see `port`.
            path: The only path that the handler answers; None for any.
            routes: A table of several, in place of a handler or beside it: then the handler answers
                any path that has no WebSocket there.
            sock: In place of host and port, a socket that listens already, or a list of several,
                which the server closes in the end; "systemd" for those that a systemd
                .socket unit passes.
            unix: In place of host and port, the path of a Unix socket to make. A file that a
                killed server has left there is replaced; the file is removed in the end.
            unix_mode: Who may connect there, as the mode of the file; by default this user alone.
            unix_owner: The file's owner, as "user:group", "user" or ":group".
            ssl_context: TLS settings for the server's side; with it the server speaks
                wss:// alone. `use_ssl_context` replaces them.
            allowed_hosts: The host names under which it may be addressed, such as
                `["example.com"]`; "*" for any. By default any, but on a loopback address
                names of this machine alone: `localhost`, `127.0.0.1`, `[::1]`, `host`, and
                those without a dot. Behind a proxy, name what it passes on as Host.
            max_connections: The most WebSocket connections at a time, None for no limit.
            max_connections_per_address: The most connections, page requests and answers
                under way of one client address together, None for no limit. With a limit
                an address may have eight more connections that ask for nothing yet, as
                browsers do; what comes beyond these is closed at once.
            max_connection_rate: The most new connections of one client address a second, None for
                no limit. Who comes faster gets 429 with Retry-After; who goes on is closed as it
                comes.
            max_connection_burst: How many of these may come at once, after a pause; a page with
                many files opens one for each.
            trusted_proxies: The addresses and networks of the proxies in front, such as
                `["127.0.0.1", "10.0.0.0/8"]`, and "unix" for a Unix socket. What they say of their
                clients counts: it is `remote_addr`, in the log, and for the limits above.
            proxy_protocol: Whether every connection begins with a header of the PROXY protocol
                (version 1 or 2), as HAProxy sends it with `send-proxy-v2`. Then only
                trusted_proxies may connect.
            forwarded_header: The header of requests in which they name the client:
                "x-forwarded-for" or "forwarded". The proxy nearest to the clients has to set it.
            access_log: The form of the lines of the logger `scriptling_ws.access`, one for each
                page and each WebSocket that has closed: "common", "combined" (formats of web
                servers) or "json". By default lines in words, also as a WebSocket opens.
            max_requests: The most page requests at a time. One whose answer is made, but is
                not read yet, is none any more.
            max_body_size: The most bytes in the body of a page's request; a longer one is
                refused with 413.
            keep_alive_timeout: Seconds that a connection waits for another request after a
                page's answer; 0 to close it then. One that waits costs no thread, and gives way to
                others. A proxy that keeps connections has to close them sooner than that.
            max_keep_alive_requests: The most requests of one connection.
            page_headers: Headers of every page, file and refusal that has no such header of its
                own, such as `{"X-Frame-Options": "DENY"}`, beside X-Content-Type-Options and
                Referrer-Policy, which are there by default; None in place of a text leaves
                one of these out.
            root_path: The path below which clients see the server, such as "/app", where the proxy
                in front passes it on: it is taken off the paths of requests, which have to
                have it. A proxy that takes it off says so itself, by X-Forwarded-Prefix.
            handshake_timeout: Seconds for the whole of an opening handshake, TLS
                included; None for no limit. An `authorize` function has as many again.
            shutdown_timeout: Seconds that `close` gives the connections to close and the
                handlers to return, and that peers have to take the answers of pages. The
                default is what a peer has to answer a close
                frame, and half of what container managers wait before they kill.
            drain_timeout: Seconds for which `close` goes on serving before that, while the health
                page says 503: as long as load balancers take to see it. They send no more then, and
                nothing is refused. By default none: those that try another server when one
                refuses a connection, as nginx and HAProxy do, need none.
            health: The path of a page for health checks: 200 while the server serves, 503 once it
                closes. True for "/healthz", None for none.
            metrics: The path of a page with figures for Prometheus, which needs prometheus-client:
                `pip install "scriptling-ws[metrics]"`. True for "/metrics", None for none.
                It is not for everybody: have a proxy keep it inside.
            max_line_size: The most bytes in a line of a request's head; a longer one is
                refused with 431, or 414 if it is the first.
            max_headers: The most headers of a request; more are refused with 431.
            max_head_size: The most bytes in a request's head; more are refused with 431.
            engine: How the process waits: "threads", or "gevent", with which each handler
                has a greenlet in place of a thread. It is one for the whole process, chosen
                before its first connection or server. By default "gevent" if gevent has patched
                the process, else "threads".
            **options: For every connection, unless its route says otherwise:
                `binary_type` (`list`, the default, or `bytes`), `text_type` (`str`, the default,
                or, with lists, `bytes`), and what `RouteOptions`
                describes, such as `origins`, `subprotocols` and `compression`. `authorize` holds
                for pages too, for all but the health page.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: an argument cannot be used, or there is nothing to serve.
            ImportError: the handler's name leads nowhere, `metrics` has no prometheus-client, or
                the engine no gevent.
            RuntimeError: the process waits by another engine already; or `metrics` are to be
                shared by several processes, and prometheus-client was imported too soon for that.
            OSError: the address is not this machine's, or in use; or there are no such sockets.
        """
        check_names("Server", options)
        choose(engine)
        self._operations = Operations(health, metrics, drain_timeout)
        log = make_access_log(access_log)
        self._sessions = Sessions(log, self._operations.figures)
        table = self._operations.add_pages(make_table(handler, path, routes))
        timeout = check_timeout(handshake_timeout, "handshake_timeout")
        decisions = Decisions(self._sessions, timeout)
        self._entrance = Entrance(table, options, allowed_hosts, self._operations, decisions)
        limits = Limits(max_connections, max_connections_per_address, max_requests)
        proxies = Proxies(trusted_proxies, proxy_protocol, forwarded_header)
        callers = Callers(limits, proxies, max_connection_rate, max_connection_burst)
        self._shutdown_timeout = check_timeout(shutdown_timeout, "shutdown_timeout")
        secure = ssl_context is not None
        if secure:
            check_context(ssl_context, server_side=True)
        check_count("max_body_size", max_body_size, least=0)
        peers = PeerOptions(
            HeadLimits(max_line_size, max_headers, max_head_size),
            max_body_size,
            KeepAlive(keep_alive_timeout, max_keep_alive_requests),
            RootPath(root_path, self._operations.paths),
            page_headers_of(page_headers),
            self._entrance.allows_host,
        )
        self._endpoints = Endpoints.open(
            host, port, sock=sock, unix=unix, unix_mode=unix_mode, unix_owner=unix_owner
        )
        with contextlib.ExitStack() as undo:
            undo.callback(self._endpoints.close)
            self._entrance.listen_on(self._endpoints.hosts, self._endpoints.addresses)
            self.port: int = self._endpoints.port
            self.address: str = self._endpoints.address
            self.url: str = self._endpoints.url(secure=secure)
            self.page_url: str = self._endpoints.page_url(secure=secure, root_path=root_path)
            self._acceptor = Acceptor(
                self._endpoints.sockets,
                self._entrance.admit,
                context=ssl_context,
                timeout=timeout,
                callers=callers,
                decisions=decisions,
                options=peers,
                access=log,
                figures=self._operations.figures,
            )
            undo.callback(self._acceptor.close)
            self._sessions.deliver = self._acceptor.deliver
            undo.callback(self._operations.end)
            self._operations.watch()
            self._thread = self._start()
            undo.callback(self._stop_at_once)
            # Late, as it leads back here: a server that cannot be made is to leave no cycle.
            self._closing = Closing(self._end, self._sessions.includes_this_thread)
            tell_after_fork(self)
            undo.pop_all()

    def _start(self) -> Task:
        try:
            self._operations.figures.start()
            return start_thread(self._acceptor.run, f"scriptling-ws {self.address}")
        except (RuntimeError, MemoryError) as error:  # as in a subinterpreter
            text = f"a server needs threads, and there is none for it: {error}"
            raise OSError(errno.EAGAIN, text) from error

    def _stop_at_once(self) -> None:
        """End the acceptor's thread, where the server could not be made after all."""
        self._acceptor.stop(Deadline(0))
        self._thread.join(_MOMENT)

    def _after_fork(self) -> None:
        """In a forked child, where nothing of the server runs: be closed."""
        self._closing.after_fork()

    @property
    def connections(self) -> list[Connection[Any, Any]]:
        """The connections that are open now; each has a handler running."""
        return self._sessions.connections

    def use_ssl_context(self, ssl_context: ssl.SSLContext) -> None:
        """Take other TLS settings, such as a renewed certificate, for all handshakes from now on.

        A new context, not the old one with another certificate: OpenSSL does not allow that
        while handshakes use it. May be called from any thread; does not block.

        Args:
            ssl_context: Settings for the server's side. Connections that are open keep theirs.

        Raises:
            TypeError: it is no context.
            ValueError: it is a client's, or the server was made without TLS.
        """
        check_context(ssl_context, server_side=True)
        if self._acceptor.context is None:
            raise ValueError("this server was made without TLS: give it an ssl_context then")
        self._acceptor.context = ssl_context

    # -- the end -------------------------------------------------------------

    def close(self) -> None:
        """Stop listening, close every connection with 1001, and wait for the handlers.

        Blocks for `drain_timeout`, and then for about `shutdown_timeout`: after that connections
        whose handlers still run are ended, which unblocks the handlers, and answers of pages that
        are still being read are cut off. A handler that does not return for two seconds more, as
        it waits for something else, goes on by itself, and a warning says so.

        Called from a handler, it waits for the others; called again, for the first call (a handler
        does not wait, nor a signal handler that has interrupted that call). If a signal handler's
        exception ends the call, the server counts as closed; another call does what is left to do.
        """
        self._closing.run()

    def _end(self) -> None:
        """As close, for the thread that closes. What was done already may be done again."""
        self._operations.drain()
        deadline = Deadline(self._shutdown_timeout)
        self._endpoints.remove()  # while it listens: nobody takes the file for a stale one
        try:
            # A thread that is not busy needs a moment too: shutdown_timeout may be 0.
            if not self._acceptor.leave(Deadline(_MOMENT)):
                _logger.warning(
                    "the acceptor is busy, and refuses what it takes up now: look for a log "
                    "handler or a disk that is slow"
                )
            self._sessions.close(deadline)
            self._acceptor.stop(deadline)
            left = deadline.left()
            self._thread.join(None if left is None else left + _MOMENT)
            if self._thread.is_alive():
                _logger.warning("the acceptor does not end: its thread is left behind")
        finally:
            self._operations.end()
            self._closing.finish()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server was closed. Blocks.

        Args:
            timeout: Seconds, None to wait for ever.

        Returns:
            Whether it was closed.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        return self._closing.done.wait(Deadline(check_timeout(timeout)).left())

    def serve_forever(self) -> None:
        """Block until SIGINT, SIGTERM or SIGHUP arrives, or `close` is called, then close.

        A signal that is ignored stays so. Signals only arrive in the main thread: called in
        another one, this waits for `close`. What handled the signals before does so again
        afterwards: a second signal ends the program at once. Under systemd (Type=notify) it is
        told when the server serves, and when it ends.
        """
        run_until_stopped(self, None)

    def _call_when_closed(self, callback: Callable[[], None]) -> None:
        self._closing.call_when_done(callback)

    # -- what a worker process asks (`worker.attend`) ----------------------------

    def _retire(self) -> None:
        """Listen no more; what has arrived goes on."""
        self._acceptor.retire()

    def _is_idle(self) -> bool:
        """Whether, of a server that has retired, nothing is left to be done."""
        # A request goes from the acceptor to a session, and its answer comes back: so look twice.
        acceptor = self._acceptor
        return acceptor.is_idle and not self._sessions.running and acceptor.is_idle

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
