"""Where the work is done: in processes of this machine, or on a Ray cluster.

A runner takes a factory and items, calls ``factory()`` once in each process, then the worker that it gives with one
item after another. Workers keep their results themselves. A worker that dies takes one item along; which results are
missing afterwards is for the caller to see.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, cast

from magictalk.errors import DatasetError, MagicTalkError, MissingDependencyError, OptionError

Worker = Callable[[Any], None]

_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
"""Processes share the cores, and sums come out the same whatever their number."""


class Runner(Protocol):
    """Does work on items, in any order."""

    def run(self, factory: Callable[[], Worker], items: Sequence[Any], alone: bool = False) -> Iterator[None]:
        """Yield once an item, when it is done or its worker died.

        Args:
            factory: makes a worker; it is pickled.
            items: what the worker takes; they are pickled.
            alone: one item at a time.

        Raises:
            MagicTalkError: when a worker does: it concerns more than one item.
            DatasetError: when a worker cannot start.
        """
        ...


@dataclass(frozen=True)
class LocalRunner:
    """Processes of this machine.

    Attributes:
        workers: how many.
    """

    workers: int

    def run(self, factory: Callable[[], Worker], items: Sequence[Any], alone: bool = False) -> Iterator[None]:
        """See :meth:`Runner.run`. Memory is bounded: a process is given an item when it has finished its last."""
        waiting = list(reversed(items))
        busy: list[Connection] = []
        starting: dict[Connection, Any] = {}
        started: list[Any] = []

        def hand_out(connection: Connection) -> None:
            if waiting:
                with suppress(ConnectionError):  # it died meanwhile, and receiving will tell
                    connection.send(waiting.pop())
                busy.append(connection)
            else:
                connection.close()

        def start() -> None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(factory, theirs), daemon=True)
            # Ctrl-C reaches the whole group, but the parent decides: processes inherit that it is blocked
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            process.start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            theirs.close()
            started.append(process)
            starting[ours] = process
            busy.append(ours)

        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # starting it with the first process would unblock signals
        try:
            with _environment(_ONE_THREAD):
                for _ in range(min(1 if alone else self.workers, len(items))):
                    start()
                while busy:
                    for ready in wait(busy):
                        connection = cast(Connection, ready)
                        busy.remove(connection)
                        process = starting.pop(connection, None)
                        try:
                            error = connection.recv()
                        except (EOFError, ConnectionError) as cause:  # it died
                            if process is not None:
                                process.join()
                                raise DatasetError(_cannot_start(f"exit code {process.exitcode}")) from cause
                            if waiting:
                                start()
                        else:
                            if error is not None:
                                raise error
                            hand_out(connection)
                        if process is None:
                            yield
        finally:
            for process in started:
                process.terminate()
                process.join()


def _serve(factory: Callable[[], Worker], connection: Connection) -> None:
    """Say None when the worker is there, then after each item; an error instead when it concerns all items."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        worker = _start(factory)
    except MagicTalkError as error:
        connection.send(error)
        return
    try:
        connection.send(None)
        while True:
            item = connection.recv()
            try:
                worker(item)
            except MagicTalkError as error:
                connection.send(error)
            else:
                connection.send(None)
    except EOFError:
        return


def _start(factory: Callable[[], Worker]) -> Worker:
    """What the factory makes.

    Raises:
        DatasetError: whatever went wrong, unless it is a MagicTalkError already.
    """
    try:
        return factory()
    except MagicTalkError:
        raise
    except Exception as error:
        raise DatasetError(_cannot_start(f"{type(error).__name__}: {_first_line(error)}")) from error


def _cannot_start(reason: str) -> str:
    return f"a worker cannot start ({reason}); mend that and run again"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that processes started meanwhile inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RayRunner:
    """A Ray cluster; every machine of it must see the raw videos and the dataset's folder under the same paths.

    A process that is connected to Ray already keeps its connection; otherwise :meth:`close` ends it.

    Args:
        address: of the cluster, such as ``"auto"`` on one of its machines, or ``"head:6379"``; ``"local"`` starts one
            here.
        workers: processes on this machine, when ``address`` is ``"local"``.

    Raises:
        MissingDependencyError: when Ray is not installed.
        OptionError: when there is no cluster at the address.
    """

    def __init__(self, address: str, workers: int) -> None:
        # or a thread of Ray Data that outlives the cluster by a moment would start another, and its end would be ours
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingDependencyError(
                f"a cluster needs Ray, which cannot be imported ({error}); pip install 'magictalk[cluster]'"
            ) from error
        self._connected = not ray.is_initialized()
        if not self._connected:
            return
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            options |= {"num_cpus": workers, "include_dashboard": False}
        try:
            ray.init(address, **options)
        except (ConnectionError, ValueError) as error:
            raise OptionError(
                f"no Ray cluster at {address} ({_first_line(error)}); start one, or give local"
            ) from error

    def close(self) -> None:
        """Leave the cluster, if this runner joined it; one that was started here ends."""
        import ray

        if self._connected:
            ray.shutdown()
            self._connected = False

    def run(self, factory: Callable[[], Worker], items: Sequence[Any], alone: bool = False) -> Iterator[None]:
        """See :meth:`Runner.run`. Items stream through Ray Data, one a block."""
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.exceptions import RayError
        from ray.util.annotations import RayDeprecationWarning

        context = DataContext.get_current()
        context.max_errored_blocks = -1  # an actor that dies takes one item along, not the job
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it would print a page for each such item
        many = 1 if alone else max(1, min(int(ray.cluster_resources()["CPU"]), len(items)))
        table = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
        pool = ActorPoolStrategy(size=many, max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings():  # that max_task_retries will get another place: Ray 2.60 knows no other yet
            warnings.simplefilter("ignore", RayDeprecationWarning)
            done = table.map(
                cast(Any, _RayWorker), fn_constructor_args=(factory,), compute=pool, num_cpus=1,
                max_restarts=-1, max_task_retries=0, runtime_env={"env_vars": _ONE_THREAD},
            )  # fmt: skip
        rows = cast(Generator[dict[str, Any], None, None], iter(done.iter_rows()))
        try:
            for row in rows:
                if row["error"] is not None:
                    raise row["error"]
                yield
        except RayError as error:
            raise DatasetError(_cannot_start(f"Ray: {_first_line(error)}")) from error
        finally:
            rows.close()  # which ends the work that is still under way


class _RayWorker:
    """A worker whose errors that concern all items come back as results; Ray would go on without their items."""

    def __init__(self, factory: Callable[[], Worker]) -> None:
        self._error: MagicTalkError | None = None
        try:
            self._worker = _start(factory)
        except MagicTalkError as error:
            self._error = error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._error is not None:
            return {"error": self._error}
        try:
            self._worker(row["item"])
        except MagicTalkError as error:
            return {"error": error}
        return {"error": None}
