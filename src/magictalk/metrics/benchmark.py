"""Systems side by side: each makes the same videos, each video is judged, and every system gets a row of means.

A job writes into one folder and goes on there when it is run again: ``videos/SYSTEM/PROTOCOL/KEY.mp4`` and, once a
video is judged, ``results/SYSTEM/PROTOCOL/KEY.json`` with features beside it as ``.npz``. Removing a file has it made
anew. A video whose result lacks a figure for which the network is there by now is judged again.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
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
from magictalk.metrics.protocols import PROTOCOLS, Case, TestClip, cross_identity, open_set, self_reenactment, unpack
from magictalk.metrics.reading import Person
from magictalk.metrics.report import Figure
from magictalk.metrics.scoring import EVERY, Features, Scorer, Scores
from magictalk.motion import FPS
from magictalk.systems import System, load_system
from magictalk.video import VideoWriter


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
        seed: of the systems.
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
    scorer = Scorer(weights, every)
    _claim(output, dataset, seconds=seconds, every=every, seed=seed, weights=str(weights), portraits=str(portraits),
           voices=str(voices))  # fmt: skip
    clips = unpack(dataset, output / "real")
    notes = [scorer.sampling, "The ground truth is judged without a reference."]
    cases: dict[str, list[Case]] = {}
    for protocol in chosen:
        if protocol == "grid" and portraits and voices:
            cases[protocol], passed = open_set(portraits, voices, seconds, output / "portraits", scorer.detector)
            notes += passed
        else:
            cases[protocol] = self_reenactment(clips) if protocol == "self" else cross_identity(clips)
        cases[protocol] = cases[protocol][:limit]
    job = _Job(scorer, output, seed, notes, progress)
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
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    part.replace(path)


class _Job:
    """Makes and judges videos one by one; what is on the disk already is taken from there."""

    def __init__(
        self,
        scorer: Scorer,
        output: Path,
        seed: int,
        notes: list[str],
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self._scorer, self._output, self._seed = scorer, output, seed
        self._notes, self._progress = notes, progress
        self._done = self._total = 0

    def run(self, systems: Sequence[System], clips: Sequence[TestClip], cases: dict[str, list[Case]]) -> Comparison:
        """Everything, the real videos first."""
        self._total = len(clips) + len(systems) * sum(map(len, cases.values()))
        real = self._all(REAL, "real", [(clip.key, partial(self._real, clip)) for clip in clips])
        found = Comparison(notes=self._notes)
        for protocol, wanted in cases.items():
            truth = [] if protocol == "grid" else [scores.features for scores in real]
            found.rows[protocol] = [self._row(REAL, real, [])]
            for system in systems:
                jobs = [(case.key, partial(self._made, system, protocol, case)) for case in wanted]
                found.rows[protocol].append(self._row(system.name, self._all(system.name, protocol, jobs), truth))
        return found

    def _row(self, name: str, scores: Sequence[Scores], truth: Sequence[Features]) -> Row:
        figures = {figure.figure: figure for figure in self._scorer.figures(scores, truth)}
        speeds = [clip.values[SPEED] for clip in scores if SPEED in clip.values]
        return Row(name, figures | {SPEED: Figure.over_clips(SPEED, speeds, "s/s", False)})

    def _all(self, system: str, protocol: str, jobs: Sequence[tuple[str, Callable[[], Scores]]]) -> list[Scores]:
        """The scores of all clips that could be judged; what fails is noted, and tried again next time."""
        scores = []
        for key, judge in jobs:
            if self._progress:
                self._progress(f"{system}, {protocol}: {key}", self._done, self._total)
            path = self._output / "results" / system.replace(" ", "-") / protocol / f"{key}.json"
            try:
                if not path.is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _save(path, judge())
                elif self._scorer.can_add_to(known := _load(path)):
                    _save(path, _timed_like(known, judge()))
                scores.append(_load(path))
            except MagicTalkError as error:
                self._notes.append(f"failed: {system}, {protocol}, {key}: {error}")
            self._done += 1
        return scores

    def _real(self, clip: TestClip) -> Scores:
        return self._scorer(clip.footage(), person=Person.of(clip.portrait(self._scorer.detector)))

    def _made(self, system: System, protocol: str, case: Case) -> Scores:
        path = self._output / "videos" / system.name / protocol / f"{case.key}.mp4"
        portrait, speech = case.who.portrait(self._scorer.detector), case.says.speech()
        took = math.nan
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            began, frames = time.perf_counter(), 0
            with VideoWriter(path, fps=FPS, sound=speech.sound) as video:
                for frame in system(portrait, speech, self._seed):
                    video.write(frame)
                    frames += 1
            took = (time.perf_counter() - began) / (frames / FPS)
        real = None if case.real is None else case.real.footage()
        scores = self._scorer(Footage.open(path), real, Person.of(portrait))
        scores.values[SPEED] = took
        return scores


def _timed_like(known: Scores, scores: Scores) -> Scores:
    """Scores of a video that was judged before; if it was not made anew, it took as long as it took then."""
    if SPEED in known.values and math.isnan(scores.values[SPEED]):
        scores.values[SPEED] = known.values[SPEED]
    return scores


def _save(path: Path, scores: Scores) -> None:
    features = path.with_suffix(".npz")
    np.savez(features, **scores.features)  # type: ignore[arg-type]  # its stubs take any keyword for an option
    _write_json(path, {"values": scores.values, "missing": scores.missing, "remarks": scores.remarks})


def _load(path: Path) -> Scores:
    try:
        facts = json.loads(path.read_text("utf-8"))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as data:
            features = {name: data[name] for name in data.files}
        return Scores(facts["values"], facts["missing"], features, remarks=facts["remarks"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise OptionError(f"{path} is damaged ({error}); remove it and run the same again") from error
