"""Work is done in other processes, each item once, whatever becomes of them. (Ray: see test_build.py.)"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from operator import methodcaller
from pathlib import Path

import psutil
import pytest

from magictalk.data.processing import load_assessor
from magictalk.data.runners import LocalRunner, RayRunner
from magictalk.errors import DatasetError, WeightsError

CALL = partial(methodcaller, "__call__")
"""Makes a worker that calls its item."""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("workers", [1, 3])
def test_every_item_is_done(tmp_path, workers):
    items = [partial(Path.touch, tmp_path / f"{i}") for i in range(7)]
    assert sum(1 for _ in LocalRunner(workers).run(CALL, items)) == 7
    assert names(tmp_path) == [f"{i}" for i in range(7)]


def test_a_worker_that_dies_takes_one_item_along(tmp_path):
    items = [partial(Path.touch, tmp_path / f"{i}") for i in range(8)]
    items[2], items[5] = partial(os._exit, 1), partial(signal.raise_signal, signal.SIGSEGV)
    assert sum(1 for _ in LocalRunner(2).run(CALL, items)) == 8
    assert names(tmp_path) == ["0", "1", "3", "4", "6", "7"]


def test_what_concerns_all_items_stops_the_job(tmp_path):
    items = [partial(load_assessor, tmp_path / "none.pt"), *[partial(time.sleep, 30)] * 3]
    begun = time.monotonic()
    with pytest.raises(WeightsError, match="no file at"):
        list(LocalRunner(2).run(CALL, items))
    assert time.monotonic() - begun < 15  # the others were not waited for
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("factory", "reason"), [(partial(int, "one"), "ValueError: invalid literal"), (partial(os._exit, 3), "exit code 3")]
)
def test_a_worker_that_cannot_start_stops_the_job(tmp_path, factory, reason):
    with pytest.raises(DatasetError, match=rf"a worker cannot start \({reason}"):
        list(LocalRunner(2).run(factory, [None] * 3))
    assert not multiprocessing.active_children()


def test_a_worker_that_cannot_start_stops_the_job_on_ray_too():
    ray = pytest.importorskip("ray")
    reason = r"a worker cannot start \(ValueError: invalid literal"
    with closing(RayRunner("local", 1)) as runner, pytest.raises(DatasetError, match=reason):
        list(runner.run(partial(int, "one"), [None] * 2))
    assert not ray.is_initialized()  # and test_build.py starts another


def test_sums_come_out_alike_in_every_process(tmp_path):
    """One thread in each: how a sum is split among threads shows in its last bits."""
    before = dict(os.environ)
    items = [partial(subprocess.run, ["sh", "-c", f"echo $OMP_NUM_THREADS > {tmp_path}/{i}"]) for i in range(2)]
    list(LocalRunner(2).run(CALL, items))
    assert [(tmp_path / f"{i}").read_text() for i in range(2)] == ["1\n", "1\n"] and dict(os.environ) == before


def test_workers_leave_with_their_parent(tmp_path):
    code = (
        "import sys, time; from functools import partial; from operator import methodcaller\n"
        "from magictalk.data.runners import LocalRunner\n"
        "if __name__ == '__main__':\n"
        "    items = [partial(time.sleep, 60)] * 2\n"
        "    list(LocalRunner(2).run(partial(methodcaller, '__call__'), items))\n"
    )
    (tmp_path / "job.py").write_text(code)
    job = subprocess.Popen([sys.executable, str(tmp_path / "job.py")])
    deadline = time.monotonic() + 30
    while len(workers := psutil.Process(job.pid).children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    job.kill()
    job.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert len(workers) >= 2 and not alive
