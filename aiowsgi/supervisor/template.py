"""Preloading (``--preload``): a generation imports its application once, in a template process.

The template forks the workers of its generation, so that they share the memory of what the
application has imported, and a worker that is added or replaced is there in milliseconds. A reload
makes a new template, which imports the new code with the new environment; so, unlike with gunicorn,
preloading and reloading go together.

::

    supervisor ── forks ──> template of generation 1 ── forks ──> workers of generation 1
               └─ forks ──> template of generation 2 ── forks ──> workers of generation 2

A worker is a child of its template, which tells the supervisor how it has ended; its orders come
from the supervisor itself, over a channel of its own. The messages between supervisor and template
are, one JSON object on each line::

    kind        from        meaning, and further members
    ----------  ----------  ------------------------------------------------------------
    fork        supervisor  fork a worker for ``place``; the descriptor of its end of its
                            channel comes along (SCM_RIGHTS)
    loaded      template    the application is imported
    failed      template    it cannot be imported, as in ``supervisor/channel.py``
    unsuitable  template    it must not be forked: ``reason``; workers import by themselves
    forked      template    the worker for ``place`` has the process id ``pid``
    ended       template    the child ``pid`` has ended: ``status``

Measured with a Django project (admin, four workers, Python 3.11, on a busy machine): 80 MB of
proportional memory instead of 139 for all processes together, and 14 ms from TTIN until the new
worker is ready, instead of 270 to 470.

What was opened or connected while the application was imported is shared by its workers, which is
right for files and wrong for most database connections: an application that is preloaded opens
those when it first needs them. Threads do not survive a fork. So an application that has started
some is not preloaded, and the log says so.

If a template dies, its workers go on; the next worker makes a new template.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from aiowsgi.exceptions import AiowsgiError
from aiowsgi.server.after_fork import ForkGuard, note_signal_handlers
from aiowsgi.supervisor import worker as worker_process
from aiowsgi.supervisor.channel import Channel, Message, encode
from aiowsgi.supervisor.children import HARMLESS, Children, die_with_parent

if TYPE_CHECKING:
    from aiowsgi.supervisor.generations import Generation
    from aiowsgi.supervisor.worker import Application, Assignment
    from aiowsgi.supervisor.worker_group import WorkerProcess

__all__ = ["Template"]

logger = logging.getLogger("aiowsgi")

ORDER: int = 4096
"""Bytes that are read at a time: more than an order has."""


class Template:
    """A generation's template, as the supervisor sees it."""

    def __init__(
        self,
        generation: Generation,
        children: Children,
        ended: Callable[[WorkerProcess, int], object],
        fork_directly: Callable[[WorkerProcess, Generation], object],
    ) -> None:
        """Fork it. ``ended`` is told of each worker that has ended; ``fork_directly`` starts one if
        this application cannot be preloaded. Raises OSError."""
        self.generation = generation
        self._worker_ended = ended
        self._fork_directly = fork_directly
        self._loaded = self._unsuitable = False
        self.alive = True
        """It can fork workers, or will be able to."""
        self._failure: Message | None = None
        # Workers that are not forked yet, with the end of the channel that each will have.
        self._waiting: dict[int, tuple[WorkerProcess, socket.socket]] = {}
        # Workers that the template was told to fork, by place; and those that live, by process id.
        self._ordered: dict[int, WorkerProcess] = {}
        self._forked: dict[int, WorkerProcess] = {}
        self._pid, sock = children.fork(
            partial(_main, generation.assignment),
            self._ended,
            [one.fileno() for one in generation.assignment.listeners.sockets],
            standard_input=generation.size == 1,
        )
        self._channel = Channel(asyncio.get_running_loop(), sock, self._hear, lambda: None)

    @property
    def in_use(self) -> bool:
        """Workers of it live, or are to be started."""
        return bool(self._waiting or self._ordered or self._forked)

    def close(self) -> None:
        """End the template, which has no workers any more. Idempotent."""
        self.alive = False
        self._channel.close()

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            os.kill(self._pid, signal.SIGKILL)

    # Starting and ending workers

    def start(self, worker: WorkerProcess, theirs: socket.socket) -> None:
        """Fork ``worker``, with ``theirs`` as its end of its channel, once that is possible."""
        self._waiting[worker.place] = worker, theirs
        self._order_workers()

    def cancel(self, worker: WorkerProcess) -> None:
        """A worker without a process id is not wanted any more."""
        if worker.place in self._waiting:
            self._waiting.pop(worker.place)[1].close()
            loop = asyncio.get_running_loop()
            loop.call_soon(self._worker_ended, worker, -signal.SIGKILL)
        # Else it is about to be forked, and is killed then.

    def _order_workers(self) -> None:
        while self._waiting and (self._loaded or self._unsuitable):
            place, (worker, theirs) = self._waiting.popitem()
            if self._unsuitable:
                theirs.close()
                worker.channel.close()
                self._fork_directly(worker, self.generation)
            else:
                self._ordered[place] = worker
                self._channel.send_descriptor(theirs.fileno(), "fork", place=place)
                theirs.close()

    # Messages

    def _hear(self, message: Message) -> None:
        handle = _HEARD.get(message["kind"])
        if handle is not None:
            handle(self, message)

    def on_loaded(self, _: Message) -> None:
        """The application is imported."""
        self._loaded = True
        self._order_workers()

    def on_failed(self, message: Message) -> None:
        """It cannot be."""
        self._failure = message

    def on_unsuitable(self, message: Message) -> None:
        """It must not be forked."""
        logger.warning("not preloaded: %s", message["reason"])
        self._unsuitable = True
        self._order_workers()

    def on_forked(self, message: Message) -> None:
        """A worker lives."""
        worker = self._ordered.pop(message["place"])
        worker.pid = message["pid"]
        self._forked[worker.pid] = worker
        logger.debug("worker %d is starting", worker.pid)
        if worker.killed:
            os.kill(worker.pid, signal.SIGKILL)

    def on_ended(self, message: Message) -> None:
        """A worker has ended."""
        worker = self._forked.pop(message["pid"], None)
        if worker is not None:
            self._worker_ended(worker, message["status"])

    def _ended(self, status: int) -> None:
        """The template itself has ended."""
        self._channel.pump()
        self._channel.close()
        self.alive = False
        if self._unsuitable:
            return
        lost = [*self._ordered.values(), *(worker for worker, _ in self._waiting.values())]
        for _, theirs in self._waiting.values():
            theirs.close()
        self._waiting.clear()
        self._ordered.clear()
        for worker in lost:
            worker.failure = self._failure
            self._worker_ended(worker, status)
        # Nothing waits for the others any more: the end of the channel is the end of the worker.
        for worker in self._forked.values():
            worker.channel.on_end(partial(self._worker_ended, worker, status))
        self._forked.clear()


_HEARD = {
    "loaded": Template.on_loaded,
    "failed": Template.on_failed,
    "unsuitable": Template.on_unsuitable,
    "forked": Template.on_forked,
    "ended": Template.on_ended,
}


# In the template process


def _main(assignment: Assignment, sock: socket.socket) -> int:
    """Import the application, and fork workers until the supervisor ends; the exit status."""
    try:
        die_with_parent(sock, until_cancelled=True)
        worker_process.prepare(assignment.config)
        guard = ForkGuard(assignment.listeners.sockets)
        note_signal_handlers(HARMLESS)
        application = worker_process.load(assignment.config)
        # From now on what is forked here is a worker.
        guard.close()
    except AiowsgiError as error:
        worker_process.report_failure(error, sock)
        return 1
    if reason := _why_unsuitable():
        sock.sendall(encode("unsuitable", reason=reason))
        return 0
    die_with_parent(sock, until_cancelled=False)
    gc.collect()
    gc.freeze()
    sock.sendall(encode("loaded"))
    _Forking(application, assignment, sock).run()
    return 0


def _why_unsuitable() -> str:
    count = len(sys._current_frames())  # noqa: SLF001 - public, in spite of its name
    with suppress(OSError):
        count = max(count, len(os.listdir("/proc/self/task")))
    if count == 1:
        return ""
    return (
        f"the application has started {count - 1} threads while it was imported, and threads do"
        " not survive a fork; each worker imports it by itself"
    )


class _Forking:
    """Forks workers as the supervisor says."""

    def __init__(
        self, application: Application, assignment: Assignment, sock: socket.socket
    ) -> None:
        self._application = application
        self._assignment = assignment
        self._sock = sock
        self._children: set[int] = set()

    def run(self) -> None:
        """Obey until the supervisor has ended."""
        # Its handler runs while an order is waited for (PEP 475).
        signal.signal(signal.SIGCHLD, self._reap)
        unread = b""
        descriptors: list[int] = []
        while True:
            data, received, *_ = socket.recv_fds(self._sock, ORDER, 16)
            if not data:
                return
            descriptors += received
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                self._fork(json.loads(line)["place"], descriptors.pop(0))

    def _fork(self, place: int, descriptor: int) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            self._become_worker(place, descriptor)
        os.close(descriptor)
        self._children.add(pid)
        self._sock.sendall(encode("forked", place=place, pid=pid))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _become_worker(self, place: int, descriptor: int) -> NoReturn:
        status = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._sock.close()
            with socket.socket(fileno=descriptor) as sock:
                status = self._serve(place, sock)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        finally:
            os._exit(status)

    def _serve(self, place: int, sock: socket.socket) -> int:
        try:
            return worker_process.serve(self._application, self._assignment, place, sock)
        except AiowsgiError as error:
            worker_process.report_failure(error, sock)
            return 1

    def _reap(self, *_: object) -> None:
        # The application's own children are its own to wait for.
        for pid in tuple(self._children):
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                # A further SIGCHLD has interrupted this handler, and has waited for it.
                continue
            if found:
                self._children.discard(pid)
                number = os.waitstatus_to_exitcode(status)
                self._sock.sendall(encode("ended", pid=pid, status=number))
