"""The master of several worker processes: it starts, replaces and ends them, and serves nobody.

Rules:

- The master opens the listening sockets, and all workers accept from the same ones. With a
  socket each (SO_REUSEPORT) a connection that waits in the queue of a worker that leaves would be
  reset; from a shared queue the others take it. So a reload refuses nobody. The price: a busy
  worker may take more than an idle one, and all of them wake up for a connection.
- The master imports no handler, starts no thread and has no connection: a worker is a fork of a
  process in which nothing else runs, and imports the code as it is by then.
- A worker that falls is replaced, ever more slowly if it keeps falling (`restarts`). If one falls
  before the first generation serves, the master gives up: the code is at fault.
- SIGHUP reloads. The new generation is complete before the old one is told to leave; if one of the
  new workers falls before that, the reload is given up, and the old ones go on.
- SIGTERM and SIGINT close all. A second one kills the workers, and then does to the
  master what it does to a program without one.
- Who is told to end and does not is killed, after the time that a server needs at the longest.
- Once a second the master looks whether a worker has ended, whatever became of SIGCHLD.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
from itertools import chain
from typing import TYPE_CHECKING, Final, NoReturn

from .._network.deadline import Deadline
from .._network.waiting import choose, engine, is_patched
from . import systemd
from .crew import Crew, Place, Worker, ending
from .signals import ENDING, HANGUP, Signals, Terminal
from .worker import Link, flush, live

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .endpoints import Endpoints

    Body = Callable[[Link], None]

__all__ = ["RELOAD_TIMEOUT", "Master", "serve_with_workers", "wait_by_threads"]

RELOAD_TIMEOUT: Final = 30
"""Seconds for the connections of workers that a reload replaces, where nobody has said."""

_logger = logging.getLogger("scriptling_ws.server")

_MARGIN: Final = 5.0  # seconds that a worker has beside its timeouts, before it is killed
_LOOK: Final = 1.0  # seconds after which the master looks for the fallen at the latest


def serve_with_workers(
    endpoints: Endpoints,
    count: int,
    body: Body,
    *,
    shutdown_timeout: float | None,
    reload_timeout: float | None,
    renew: Callable[[], object] = lambda: None,
    announce: Callable[[], object] = lambda: None,
    left: Callable[[int], object] = lambda _: None,
) -> int:
    """Serve with worker processes until a signal ends it. Blocks. For the main thread.

    Args:
        endpoints: The listening sockets; closed in the end, also if this raises.
        count: How many workers there are.
        body: What a worker does, in its own process: it makes a server with the sockets, and
            attends to it (`worker.attend`).
        shutdown_timeout: The servers' own, and the time in which they drain.
        reload_timeout: Seconds for the connections of workers that a reload replaces.
        renew: Called for a reload before the new workers start. If it raises ValueError, the
            reload is given up.
        announce: Called once all workers serve for the first time.
        left: Called with the number of each worker that has ended.

    Returns:
        0, or if no worker could start, the exit status of the one that has tried.

    Raises:
        OSError: there is no fork on this system, or too few descriptors.
        RuntimeError: this is not the main thread.
    """
    try:
        if sys.platform == "win32" or not hasattr(os, "fork"):
            raise OSError(
                errno.ENOSYS,
                "several processes need fork, which this system has not: start several servers, "
                "with a port each, behind a proxy",
            )
        if not engine().hears_signals():
            raise RuntimeError("several processes need the main thread: signals arrive there alone")
        with Signals(ENDING, always=(signal.SIGCHLD,)) as signals:
            master = Master(endpoints, count, body, signals, shutdown_timeout, reload_timeout, left)
            master.run(renew, announce)
    finally:
        endpoints.close()
    if master.struck_by:
        signal.raise_signal(master.struck_by)
    return master.status


def wait_by_threads() -> None:
    """Have the master wait by threads, whatever its workers are to do: before it waits at all.

    Raises:
        RuntimeError: gevent has patched this process, or runs in it.
    """
    if not is_patched():
        try:
            choose("threads")
        except RuntimeError:
            pass
        else:
            return
    raise RuntimeError(
        "gevent runs in this process, which cannot be forked with it: leave gevent to the workers, "
        "by engine='gevent' or by 'scriptling-ws --processes N --patch'"
    )


class Master:
    """Keeps workers, from `run` until the last one has ended.

    Attributes:
        status: The exit status of a worker that could not start, else 0.
        struck_by: The signal that came while the workers were ending; 0 for none.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        count: int,
        body: Body,
        signals: Signals,
        shutdown_timeout: float | None,
        reload_timeout: float | None,
        left: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Get ready. See `serve_with_workers`."""
        self._endpoints = endpoints
        self._count = count
        self._body = body
        self._signals = signals
        self._shutdown_timeout = shutdown_timeout
        self._reload_timeout = reload_timeout
        self._left = left
        self._terminal = Terminal()
        self._crew: Crew | None = None  # who serves
        self._next: Crew | None = None  # who is to serve, once complete
        self._leaving: list[Worker] = []
        self._asked = False  # whether a reload was asked for, and has not begun
        self._stopping = False
        self.status = 0
        self.struck_by = 0

    def run(self, renew: Callable[[], object], announce: Callable[[], object]) -> None:
        """Keep the workers until they have ended. Blocks."""
        self._next = Crew(self._count)
        try:
            while not self._stopping or self._workers():
                self._start_missing()
                numbers, ready = self._signals.hear(self._until(), self._links())
                for worker in self._workers():
                    if worker.link in ready:
                        worker.listen()
                self._reap()
                self._promote(announce)
                self._heed(numbers, renew)
                self._kill_late()
        finally:
            self._kill_all()

    # -- what there is -------------------------------------------------------

    def _workers(self) -> list[Worker]:
        crews = [crew.workers for crew in (self._next, self._crew) if crew is not None]
        return [*chain(*crews), *self._leaving]

    def _links(self) -> list[Link]:
        return [worker.link for worker in self._workers() if worker.link.fileno() >= 0]

    def _until(self) -> Deadline:
        """When there is something to do, whatever happens."""
        deadlines = [worker.deadline for worker in self._workers()]
        if not self._stopping:
            deadlines += [place.rest for place in self._empty()]
        times = (deadline.left() for deadline in deadlines)
        return Deadline(min((time for time in times if time is not None), default=_LOOK)).sooner(
            _LOOK
        )

    def _empty(self) -> list[Place]:
        crews = [crew.empty() for crew in (self._next, self._crew) if crew is not None]
        return list(chain(*crews))

    # -- starting ------------------------------------------------------------

    def _start_missing(self) -> None:
        if self._stopping:
            return
        for place in self._empty():
            if place.rest.passed():
                place.pace.start()
                try:
                    place.worker = self._start()
                except OSError as error:  # as many processes or descriptors as there may be
                    _logger.warning(
                        "no worker can be started: %s; the next try is in %.1f s",
                        error,
                        place.fall(),
                    )

    def _start(self) -> Worker:
        """Fork. In the child this never returns."""
        if sys.platform == "win32":  # pragma: no cover - `serve_with_workers` has refused
            raise AssertionError
        ours, theirs = map(Link, socket.socketpair())
        flush()
        # None may arrive before the child has let go of what it shares with the master.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            process = os.fork()
            if not process:
                ours.close()
                self._live(theirs, mask)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return Worker(process, ours)

    def _live(self, link: Link, mask: Iterable[int]) -> NoReturn:
        """In the child: be a worker."""
        live(self._let_go, self._body, link, mask, alone=self._count == 1)

    def _let_go(self) -> None:
        """In the child: have nothing in common with the master but the listening sockets."""
        self._signals.forsake()
        for worker in self._workers():
            worker.link.close()

    # -- ends ----------------------------------------------------------------

    def _reap(self) -> None:
        for worker in self._workers():
            status = worker.reap()
            if status is not None:
                worker.link.close()
                self._left(worker.process)
                self._fallen(worker, status)

    def _fallen(self, worker: Worker, status: int) -> None:
        if worker in self._leaving:
            self._leaving.remove(worker)
            return
        crew = self._next if self._next and self._next.place_of(worker) else self._crew
        assert crew is not None
        place = crew.place_of(worker)
        assert place is not None
        if self._stopping:
            place.worker = None
        elif crew is self._next:
            place.worker = None
            self._give_up(worker, status)
        else:
            _logger.warning(
                "worker %d has ended %s: another one starts in %.1f s",
                worker.process,
                ending(status),
                place.fall(),
            )

    def _give_up(self, worker: Worker, status: int) -> None:
        """A worker of the next generation has fallen before that served."""
        if self._crew is None:
            _logger.log(
                logging.DEBUG if status > 0 else logging.ERROR,  # that one has shown what it is
                "worker %d has ended %s before all served: giving up",
                worker.process,
                ending(status),
            )
            self.status = status if status >= 0 else 128 - status
            self._stop()
            return
        _logger.error(
            "the reload is given up, as the new worker %d has ended %s: the old ones go on",
            worker.process,
            ending(status),
        )
        assert self._next is not None
        self._retire(self._next)
        self._next = None
        systemd.notify_ready("the reload has failed")

    def _kill_late(self) -> None:
        for worker in self._workers():
            if worker.deadline.passed():
                _logger.warning("worker %d does not end in time, and is killed", worker.process)
                worker.kill()

    def _kill_all(self) -> None:
        """Have no worker left, whatever has ended `run`."""
        for worker in self._workers():
            worker.kill()
        for worker in self._workers():
            worker.reap(wait=True)
            worker.link.close()

    # -- generations ---------------------------------------------------------

    def _promote(self, announce: Callable[[], object]) -> None:
        """Have the next generation serve, once it is complete, and the one before leave."""
        if self._stopping or self._next is None or not self._next.is_complete:
            return
        before, self._crew, self._next = self._crew, self._next, None
        if before is None:
            announce()
        else:
            _logger.info("reloaded: new workers serve, the old ones leave")
            self._retire(before)
        systemd.notify_ready(f"serving with {self._count} workers")

    def _retire(self, crew: Crew) -> None:
        """Have a generation leave, once its connections have ended."""
        deadline = Deadline(self._grace(self._reload_timeout, self._shutdown_timeout))
        for worker in crew.workers:
            worker.retire(deadline)
            self._leaving.append(worker)

    @staticmethod
    def _grace(*timeouts: float | None) -> float | None:
        """How long a worker may take for all of these."""
        seconds = [timeout for timeout in timeouts if timeout is not None]
        return sum(seconds) + _MARGIN if len(seconds) == len(timeouts) else None

    # -- signals -------------------------------------------------------------

    def _heed(self, numbers: frozenset[int], renew: Callable[[], object]) -> None:
        endings = numbers.intersection(ENDING)
        if HANGUP in endings and not self._terminal.is_gone():
            endings -= {HANGUP}
            self._asked = True
        if self._stopping:
            endings -= {HANGUP}  # a shell sends it once more than the terminal
        if endings and self._stopping:
            self.struck_by = self.struck_by or min(endings)
            for worker in self._workers():
                worker.kill()
        elif endings:
            _logger.info("the workers are told to close")
            self._stop()
        elif self._asked and self._next is None and not self._stopping:
            self._asked = False
            self._reload(renew)

    def _stop(self) -> None:
        """Listen no more, and have all workers close their connections and end."""
        self._stopping = True
        systemd.notify_stopping()
        self._endpoints.close()
        deadline = Deadline(self._grace(self._shutdown_timeout))
        for worker in self._workers():
            worker.stop(deadline)

    def _reload(self, renew: Callable[[], object]) -> None:
        """Start another generation."""
        systemd.notify_reloading()
        try:
            renew()
        except ValueError as error:
            _logger.error("the reload is given up: %s; the workers go on", error)  # noqa: TRY400
            systemd.notify_ready("the reload has failed")
            return
        _logger.info("reloading: new workers start")
        self._next = Crew(self._count)
