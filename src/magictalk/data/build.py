"""Raw videos to a dataset, after MCDM section 4.1: plan, process, name, pack, report; each step can be gone on with."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from magictalk.data.identities import assign
from magictalk.data.processing import Clip, ClipProcessor, SourceCutter, dropped
from magictalk.data.report import write_report
from magictalk.data.runners import Runner, Worker
from magictalk.data.settings import Settings
from magictalk.data.shards import assign_shards, write_shards
from magictalk.data.sources import Source
from magictalk.data.staging import Staging, read_records, write_records, writing
from magictalk.data.table import TABLE, ClipRecord, read_table, write_table
from magictalk.errors import DatasetError, MissingDependencyError

T = TypeVar("T")

_DIED = "processing it ends the process: out of memory, or a crash"

JOB = "build.json"
"""In a dataset's folder: what it is built from and with."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many of how many are."""


def build(
    sources: Sequence[Source],
    dataset: Path,
    settings: Settings,
    runner: Runner,
    progress: Progress = lambda what, done, total: None,
) -> list[ClipRecord]:
    """Build a dataset, or go on with one that broke off; the bytes do not depend on where and how often it did.

    Args:
        sources: from :func:`magictalk.data.sources.find_sources`.
        dataset: the folder to write; new, empty, or a half-built dataset of the same sources and settings.
        settings: of the stages.
        runner: where the work is done.
        progress: called as work gets done.

    Returns:
        The dataset's table. When the dataset was complete already nothing is done.

    Raises:
        DatasetError: when the folder holds something else, a dataset of other videos or settings, or is being built.
            Also when it cannot be written, a machine does not see it or a video, or a worker cannot start.
        MissingDependencyError, WeightsError: when a stage lacks what it needs; nothing is written then.
    """
    begun, dataset = time.monotonic(), dataset.resolve()  # workers may be elsewhere
    staging = Staging(dataset)
    if is_complete(sources, dataset, settings):
        shutil.rmtree(staging.folder, ignore_errors=True)
        return read_table(dataset / TABLE)
    _check_installed()
    ClipProcessor(settings, dataset)  # what is lacking is said before any work
    new = not is_begun(dataset)
    with _alone(dataset, staging.folder):
        with writing(dataset):
            staging.prepare()
            _write_job(sources, dataset, settings)
        final = staging.folder / "table.json"
        if not final.is_file():
            clips = _plan(sources, dataset, settings, runner, progress)
            made = _process(clips, dataset, settings, runner, progress)
            with writing(dataset):
                write_records(final, _finish(made, staging, settings))
        with writing(dataset):
            records = read_records(final)
            packed, kept = 0, sum(r.kept for r in records)
            for count in write_shards(records, dataset, staging):
                packed += count
                progress("packing", packed, kept)
            write_report(dataset, records, seconds_taken=time.monotonic() - begun if new else None)
            write_table(records, dataset / TABLE)
            shutil.rmtree(staging.folder)
    return records


def is_begun(dataset: Path) -> bool:
    """Whether a dataset is in the folder already, finished or half-built."""
    return (dataset / JOB).is_file()


def is_complete(sources: Sequence[Source], dataset: Path, settings: Settings) -> bool:
    """Whether the folder holds this very dataset, finished.

    Raises:
        DatasetError: when it holds anything but this dataset, finished or half-built, or cannot be read.
    """
    try:
        return _is_complete(sources, dataset, settings)
    except OSError as error:
        raise DatasetError(
            f"{error.filename or dataset} cannot be read ({error.strerror or error}); check it and its permissions"
        ) from error


def _is_complete(sources: Sequence[Source], dataset: Path, settings: Settings) -> bool:
    if dataset.exists() and not dataset.is_dir():
        raise DatasetError(f"{dataset} is a file; expected a folder for the dataset")
    there = {p.name for p in dataset.iterdir()} - {Staging(dataset).folder.name} if dataset.is_dir() else set()
    if not there:
        return False
    if JOB not in there:
        raise DatasetError(f"{dataset} is not empty and holds no dataset; give another folder")
    now = _job(sources, settings)
    try:
        before = json.loads((dataset / JOB).read_text("utf-8"))
    except ValueError:
        before = None
    if not isinstance(before, dict) or before.keys() != now.keys():
        raise DatasetError(f"{dataset / JOB} is damaged; build into another folder")
    for name in now["settings"]:
        was, wanted = before["settings"].get(name), now["settings"][name]
        if was != wanted:
            raise DatasetError(
                f"{dataset} was begun with {name} {was}, now {wanted}; ask for the same, or give another folder"
            )
    if before != now:
        raise DatasetError(
            f"{dataset} was begun with {len(before['sources'])} videos, now {len(now['sources'])} that are not the "
            "same, or are described otherwise; give another folder"
        )
    return TABLE in there


def _check_installed() -> None:
    for library in ("jinja2", "pyarrow", "scenedetect", "webdataset"):
        try:
            import_module(library)
        except ImportError as error:
            raise MissingDependencyError(
                f"datasets need {library}, which cannot be imported ({error}); pip install 'magictalk[data]'"
            ) from error


def _job(sources: Sequence[Source], settings: Settings) -> dict[str, Any]:
    videos = [[s.name, s.path.stat().st_size, s.identity, s.split, s.language, s.licence] for s in sources]
    return {"settings": asdict(settings), "sources": videos}


def _write_job(sources: Sequence[Source], dataset: Path, settings: Settings) -> None:
    part = Staging(dataset).folder / f"{JOB}.part"
    part.write_text(json.dumps(_job(sources, settings), indent=1), "utf-8")
    part.replace(dataset / JOB)


def _plan(
    sources: Sequence[Source], dataset: Path, settings: Settings, runner: Runner, progress: Progress
) -> list[Clip]:
    """Every source cut into clips."""
    staging = Staging(dataset)
    work = _Work("finding scenes", runner, progress)
    for source in work.do(partial(SourceCutter, settings, dataset), sources, lambda s: staging.has_plan(s.key)):
        with writing(dataset):
            staging.write_plan(source.key, [dropped(source.record(), "error", _DIED)])
    return [Clip(source.path, record) for source in sources for record in staging.plan(source.key)]


def _process(
    clips: Sequence[Clip], dataset: Path, settings: Settings, runner: Runner, progress: Progress
) -> list[ClipRecord]:
    """Every clip taken through the stages; those that were dropped when they were cut stay so."""
    staging = Staging(dataset)
    work = _Work("processing clips", runner, progress)
    todo = [c for c in clips if c.record.kept]
    for clip in work.do(partial(ClipProcessor, settings, dataset), todo, lambda c: staging.has(c.record.key)):
        with writing(dataset):
            staging.close(staging.open(clip.record.key), dropped(clip.record, "error", _DIED))
    return [staging.record(c.record.key) if c.record.kept else c.record for c in clips]


def _finish(made: Sequence[ClipRecord], staging: Staging, settings: Settings) -> list[ClipRecord]:
    """The records in their order, with who is seen, in which split, and in which shard."""
    embeddings = {r.key: _embedding(staging.clip(r.key)) for r in made if r.kept}
    named = sorted(assign(made, embeddings, settings.seed), key=lambda r: r.key)
    return assign_shards(named, staging, settings.shard_mb)


@dataclass(frozen=True)
class _Work:
    """One kind of work on many items."""

    what: str
    runner: Runner
    progress: Progress

    def do(self, factory: Callable[[], Worker], items: Sequence[T], finished: Callable[[T], bool]) -> list[T]:
        """Do what is not finished; items whose worker died get another try, alone. Returns those it died of again."""
        todo = [i for i in items if not finished(i)]
        for alone in (False, True):
            done = len(items) - len(todo)
            for _ in self.runner.run(factory, todo, alone) if todo else ():
                done += 1
                self.progress(self.what, done, len(items))
            todo = [i for i in todo if not finished(i)]
        return todo


def _embedding(clip: Path) -> NDArray[np.float32]:
    with np.load(clip / "clip.npz", allow_pickle=False) as arrays:
        return np.asarray(arrays["embedding"])


@contextmanager
def _alone(dataset: Path, folder: Path) -> Iterator[None]:
    """Hold the folder, so that no second run builds in it; the system lets go of it when this process ends."""
    with writing(dataset):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{dataset} is being built by another run; wait for it") from error
        yield
