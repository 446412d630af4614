"""Systems side by side: each makes the same videos, each video is judged, and every system gets a row of means.

A job writes into one folder and goes on there when it is run again: ``videos/SYSTEM/PROTOCOL/KEY.mp4`` and, once a
video is judged, ``results/SYSTEM/PROTOCOL/KEY.json`` with features beside it as ``.npz``. Takes with further seeds lie
in ``seed-N`` beside them; of these only the movement is kept, as ``.npz``. Removing a file has it made anew. A video
whose result lacks a figure that can be had by now is judged again. Processes with different systems may share a folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from magictalk.data.dataset import Dataset
from magictalk.data.table import TABLE
from magictalk.errors import MagicTalkError, OptionError
from magictalk.metrics.comparison import REAL, SPEED, Comparison, Row
from magictalk.metrics.footage import Footage
from magictalk.metrics.movement import ExpressionDiversity, HeadDiversity
from magictalk.metrics.protocols import PROTOCOLS, Case, TestClip, cross_identity, open_set, self_reenactment, unpack
from magictalk.metrics.reading import Person
from magictalk.metrics.report import Figure
from magictalk.metrics.rules import RULES
from magictalk.metrics.scoring import EVERY, Features, Scorer, Scores
from magictalk.motion import FPS
from magictalk.portrait import Portrait
from magictalk.systems import System, load_system
from magictalk.video import VideoWriter

DIVERSITY = ExpressionDiversity, HeadDiversity
"""Figures of several takes of a video."""
_TRUTH = (
    "The ground truth is judged without a reference; its figures of all clips together (Fréchet distances, speeds, the "
    "head's spectrum) are those of every other clip against the rest: what chance leaves between videos of people."
)


def benchmark(
    systems: Sequence[str],
    data: Path,
    output: Path,
    *,
    protocols: Sequence[str] | None = None,
    portraits: Path | None = None,
    voices: Path | None = None,
    seconds: float = 5.0,
    limit: int | None = None,
    weights: Path | None = None,
    every: int = EVERY,
    seed: int = 0,
    seeds: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Run systems on a dataset's test split and measure what they make.

    Args:
        systems: names of :func:`magictalk.systems.names`.
        data: folder made by ``magictalk data build``.
        output: folder for videos and results; a job that broke off goes on there.
        protocols: of ``PROTOCOLS``; by default self and cross, and grid where there are portraits and voices.
        portraits: folder of pictures for the grid.
        voices: folder of sounds for the grid.
        seconds: of each voice.
        limit: at most so many videos a protocol.
        weights: folder of networks that some figures need; see :mod:`magictalk.metrics.networks`.
        every: costly figures look at every so many frames.
        seed: added to the number that each video's name gives, for the systems.
        seeds: takes of each video, the first with ``seed``, each further one with the next number. All but the first
            are only tracked, for the figures of diversity.
        progress: told of the video at hand, videos done and videos in all.

    Raises:
        OptionError: a name is not known, the grid lacks portraits or voices, or ``output`` holds another benchmark.
        DatasetError: the dataset or a folder cannot be used, or protocol cross finds one person only.
        WeightsError: the folder of weights or a system's weights are missing.
    """
    grid = portraits is not None and voices is not None
    if not grid and (portraits or voices):
        raise OptionError("portraits and voices belong together; give both --portraits FOLDER and --voices FOLDER")
    chosen = list(dict.fromkeys(protocols or ("self", "cross", *(["grid"] if grid else []))))
    for protocol in chosen:
        if protocol not in PROTOCOLS:
            raise OptionError(f"no protocol named {protocol!r}; expected {', '.join(PROTOCOLS)}")
    if "grid" in chosen and not grid:
        raise OptionError("protocol grid needs portraits and voices; give --portraits FOLDER and --voices FOLDER")
    runners = [load_system(name) for name in dict.fromkeys(systems)]
    dataset = Dataset(data, "test")
    scorer = Scorer(weights, every, pairs=False)
    _claim(output, dataset, seconds=seconds, every=every, seed=seed, weights=str(weights), portraits=str(portraits),
           voices=str(voices))  # fmt: skip
    clips = unpack(dataset, output / "real")
    notes = [scorer.sampling, _TRUTH]
    cases: dict[str, list[Case]] = {}
    for protocol in chosen:
        if protocol == "grid" and portraits and voices:
            cases[protocol], passed = open_set(portraits, voices, seconds, output / "portraits", scorer.detector)
            notes += passed
        else:
            cases[protocol] = self_reenactment(clips) if protocol == "self" else cross_identity(clips)
        cases[protocol] = cases[protocol][:limit]
    job = _Job(scorer, output, range(seed, seed + seeds), notes, progress)
    return job.run(runners, clips[:limit], cases)


def _claim(output: Path, dataset: Dataset, **options: object) -> None:
    """Make the folder, or make sure that what it holds was made with the same options of the same dataset."""
    digest = hashlib.blake2b((dataset.folder / TABLE).read_bytes(), digest_size=8).hexdigest()
    now = {"dataset": digest, **options}
    try:
        output.mkdir(parents=True, exist_ok=True)
        path = output / "benchmark.json"
        if not path.exists():
            _write_json(path, now)
        was = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot write a benchmark to {output} ({error}); give another folder") from error
    for name, value in now.items():
        if was.get(name) != value:
            raise OptionError(
                f"{output} holds a benchmark with {name} {was.get(name)}, now {value}; ask for the same, or give "
                "another folder"
            )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    part.replace(path)


class _Job:
    """Makes and judges videos one by one; what is on the disk already is taken from there."""

    def __init__(
        self,
        scorer: Scorer,
        output: Path,
        seeds: range,
        notes: list[str],
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self._scorer, self._output, self._seeds = scorer, output, seeds
        self._notes, self._progress = notes, progress
        self._done = self._total = 0

    def run(self, systems: Sequence[System], clips: Sequence[TestClip], cases: dict[str, list[Case]]) -> Comparison:
        """Everything, the real videos first."""
        self._total = len(clips) + len(systems) * sum(map(len, cases.values())) * len(self._seeds)
        real = self._all(REAL, "real", [(clip.key, partial(self._real, clip)) for clip in clips])
        truth = [clip.features for clip in real.values()]
        found = Comparison(notes=self._notes)
        for protocol, wanted in cases.items():
            found.rows[protocol] = [self._truth_row(list(real.values()))]
            for system in systems:
                jobs = [(case.key, partial(self._made, system, protocol, case)) for case in wanted]
                scores = self._all(system.name, protocol, jobs)
                row = self._row(system.name, list(scores.values()), [] if protocol == "grid" else truth)
                takes = self._takes(system, protocol, wanted, {key: clip.features for key, clip in scores.items()})
                row.figures |= self._diversities(takes)
                found.rows[protocol].append(row)
        return found

    def _truth_row(self, real: Sequence[Scores]) -> Row:
        """The real videos; figures of all clips together compare every other one with the rest (see ``_TRUTH``)."""
        row = self._row(REAL, real, [])
        halved = self._row(REAL, real[::2], [clip.features for clip in real[1::2]])
        row.figures |= {rule.figure: halved.figures[rule.figure] for rule in RULES if rule.of is None}
        filmed_once = "people are filmed once"
        row.figures |= {kind.figure: Figure(kind.figure, unit=kind.unit, reason=filmed_once) for kind in DIVERSITY}
        return row

    def _row(self, name: str, scores: Sequence[Scores], truth: Sequence[Features]) -> Row:
        figures = {figure.figure: figure for figure in self._scorer.figures(scores, truth)}
        speeds = [clip.values[SPEED] for clip in scores if SPEED in clip.values]
        return Row(name, figures | {SPEED: Figure.over_clips(SPEED, speeds, "s/s", False)})

    def _diversities(self, takes: Sequence[Sequence[Features]]) -> dict[str, Figure]:
        """Figures of the takes of each clip."""
        if len(self._seeds) < 2:
            return {k.figure: Figure(k.figure, unit=k.unit, reason="needs two seeds (--seeds 2)") for k in DIVERSITY}
        found = [self._scorer.diversity(clip) for clip in takes]
        return {k.figure: Figure.over_clips(k.figure, [f[k.figure] for f in found], k.unit) for k in DIVERSITY}

    def _all(self, system: str, protocol: str, jobs: Sequence[tuple[str, Callable[[], Scores]]]) -> dict[str, Scores]:
        """The scores by key of all clips that could be judged; what fails is noted, and tried again next time."""
        scores = {}
        for key, judge in jobs:
            path = self._output / "results" / system.replace(" ", "-") / protocol / f"{key}.json"
            with self._step(system, protocol, key):
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _save(path, judge())
                elif self._scorer.can_add_to(known := _load(path)):
                    _save(path, _timed_like(known, judge()))
                scores[key] = _load(path)
        return scores

    def _takes(
        self, system: System, protocol: str, cases: Sequence[Case], firsts: Mapping[str, Features]
    ) -> list[list[Features]]:
        """How the face moves in all takes of each clip, ``firsts`` among them; clips that failed are left out."""
        found = []
        for case in cases:
            takes = [firsts[case.key]] if case.key in firsts else []
            for seed in self._seeds[1:]:
                with self._step(system.name, f"{protocol}/seed-{seed}", case.key):
                    takes.append(self._take(system, f"{protocol}/seed-{seed}", case, seed))
            if len(takes) == len(self._seeds):
                found.append(takes)
        return found

    @contextmanager
    def _step(self, system: str, protocol: str, key: str) -> Iterator[None]:
        """One video: told of before, noted if it fails."""
        if self._progress:
            self._progress(f"{system}, {protocol}: {key}", self._done, self._total)
        try:
            yield
        except MagicTalkError as error:
            self._notes.append(f"failed: {system}, {protocol}, {key}: {error}")
        self._done += 1

    def _real(self, clip: TestClip) -> Scores:
        return self._scorer(clip.footage(), person=Person.of(clip.portrait(self._scorer.detector)))

    def _made(self, system: System, protocol: str, case: Case) -> Scores:
        path = self._output / "videos" / system.name / protocol / f"{case.key}.mp4"
        portrait = case.who.portrait(self._scorer.detector)
        took = math.nan if path.is_file() else _film(path, system, portrait, case, self._seeds[0])
        real = None if case.real is None else case.real.footage()
        scores = self._scorer(Footage.open(path), real, Person.of(portrait))
        scores.values[SPEED] = took
        return scores

    def _take(self, system: System, protocol: str, case: Case, seed: int) -> Features:
        """How the face moves with another seed."""
        path = self._output / "videos" / system.name / protocol / f"{case.key}.mp4"
        known = self._output / "results" / system.name / protocol / f"{case.key}.npz"
        if not known.is_file():
            if not path.is_file():
                _film(path, system, case.who.portrait(self._scorer.detector), case, seed)
            known.parent.mkdir(parents=True, exist_ok=True)
            _save_features(known, self._scorer.movement(Footage.open(path)))
        return _load_features(known)


def _film(path: Path, system: System, portrait: Portrait, case: Case, seed: int) -> float:
    """Make a video, with a seed of its own: a system that draws how people act shall not draw one for all.

    Returns:
        Seconds that a second of it took.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    speech, own = case.says.speech(), (zlib.crc32(case.key.encode()) + seed) % 2**32
    began, frames = time.perf_counter(), 0
    with VideoWriter(path, fps=FPS, sound=speech.sound) as video:
        for frame in system(portrait, speech, own):
            video.write(frame)
            frames += 1
    return (time.perf_counter() - began) / (frames / FPS)


def _timed_like(known: Scores, scores: Scores) -> Scores:
    """Scores of a video that was judged before; if it was not made anew, it took as long as it took then."""
    if SPEED in known.values and math.isnan(scores.values[SPEED]):
        scores.values[SPEED] = known.values[SPEED]
    return scores


def _save(path: Path, scores: Scores) -> None:
    _save_features(path.with_suffix(".npz"), scores.features)
    _write_json(path, {"values": scores.values, "missing": scores.missing, "remarks": scores.remarks})


def _load(path: Path) -> Scores:
    try:
        facts = json.loads(path.read_text("utf-8"))
        known = facts["values"], facts["missing"], facts["remarks"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return Scores(known[0], known[1], _load_features(path.with_suffix(".npz")), remarks=known[2])


def _save_features(path: Path, features: Features) -> None:
    part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(part, **features)  # type: ignore[arg-type]  # its stubs take any keyword for an option
    part.replace(path)


def _load_features(path: Path) -> Features:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> OptionError:
    return OptionError(f"{path} is damaged ({error}); remove it and run the same again")
