"""Every figure of a clip, and of many clips together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MissingDependencyError, WeightsError
from magictalk.face.landmarks import FaceDetector
from magictalk.face.recognition import FaceRecogniser
from magictalk.face.rig import Rig
from magictalk.metrics import networks
from magictalk.metrics.emotion import EmotionAccuracy
from magictalk.metrics.footage import Footage
from magictalk.metrics.frechet import FID, FVD, FrechetDistance
from magictalk.metrics.identity import ArcFace
from magictalk.metrics.movement import ExpressionDiversity, HeadDiversity, movement_rows
from magictalk.metrics.reading import Person, Reader
from magictalk.metrics.report import Figure
from magictalk.metrics.rules import MISSING, RULES, Asked, Look, Piece, Rule, Whole
from magictalk.portrait import Portrait
from magictalk.sync import SyncJudge
from magictalk.syncnet import SyncNetJudge

EVERY = 5
"""Costly figures look at every so many frames."""

Features = dict[str, NDArray[np.float32]]
"""Rows ``[N, D]`` of which figures of all clips together are made, by the name that ``Rule.rows`` gives."""


@dataclass
class Scores:
    """The figures of one clip.

    Attributes:
        values: by figure; NaN where the clip does not show what it measures.
        missing: by figure: why it was not computed.
        features: of the generated video.
        real_features: of the reference; None where there is none, or where nobody asked for it.
        likeness: to the person, of every frame that identity is judged on, ``[n]``; NaN without a face, and empty
            where no frame has one or faces cannot be compared.
        remarks: what is odd about the clip.
    """

    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    features: Features = field(default_factory=dict)
    real_features: Features | None = None
    likeness: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    remarks: list[str] = field(default_factory=list)


class Scorer:
    """Measures clips one after the other; networks and trackers are loaded once.

    Args:
        weights: folder of networks that some figures need; see :mod:`magictalk.metrics.networks`.
        every: costly figures look at every so many frames.
        pairs: keep features of the references too, so that all clips can be compared with all of their references.

    Raises:
        WeightsError: the folder does not exist.

    Attributes:
        missing: figures that no clip can have here, and why.
    """

    def __init__(self, weights: Path | None = None, every: int = EVERY, pairs: bool = True) -> None:
        if weights is not None and not weights.is_dir():
            raise WeightsError(f"no folder of weights at {weights}; expected one with a sub-folder for each network")
        self.every, self._pairs = every, pairs
        self.missing: dict[str, str] = {}
        self._rig = Rig.load()
        tools = {
            "dlib": self._tool("dlib", FaceRecogniser),
            "arcface": self._tool("arcface", lambda: ArcFace(weights)),
            "sync": self._tool("sync", SyncJudge.load),
            "syncnet": self._tool("syncnet", lambda: SyncNetJudge.load(networks.find("syncnet", weights))),
        }
        there = {name: tool for name, tool in tools.items() if tool is not None}
        judges = {name: tool for name, tool in there.items() if name.startswith("sync")}
        self._reader = Reader(every, {n: tool for n, tool in there.items() if n not in judges}, judges)
        self._meters = {rule: meter for rule in RULES if (meter := self._meter(rule, weights)) is not None}

    @property
    def detector(self) -> FaceDetector:
        """Finds faces; loaded already."""
        return self._reader.detector

    def _tool(self, name: str, load: Callable[[], Any]) -> Any | None:
        try:
            return load()
        except (WeightsError, MissingDependencyError) as error:
            self.missing |= {rule.figure: str(error) for rule in RULES if rule.tool == name}
            return None

    def _meter(self, rule: Rule, weights: Path | None) -> Any | None:
        if rule.figure in self.missing:
            return None
        own_network = {"weights": weights} if rule.kind.needs and not rule.tool else {}
        try:
            return rule.kind(**rule.options, **own_network)
        except (WeightsError, MissingDependencyError) as error:
            self.missing[rule.figure] = str(error)
            return None

    @property
    def sampling(self) -> str:
        """How frames were chosen, in a sentence."""
        if self.every == 1:
            return "Every frame is looked at."
        return (
            f"Pictures and identity are judged on one frame in {self.every} (flicker: on it and the next), landmarks, "
            "lips, eyes and sync on all."
        )

    def person(self, picture: Path) -> Person:
        """The person in a picture, to compare faces with.

        Raises:
            PortraitError: it cannot be read, or shows no face.
        """
        return Person.of(Portrait.open(picture, detector=self.detector))

    def check(self, asked: Asked) -> None:
        """Make sure, before any work, that what was asked of the videos can be judged.

        Raises:
            OptionError: the classifier of emotions does not know the one that was asked for.
        """
        for meter in self._meters.values():
            if isinstance(meter, EmotionAccuracy) and asked.emotion is not None:
                meter.check(asked.emotion)

    def can_add_to(self, scores: Scores) -> bool:
        """Do scores that were made with fewer networks lack a figure, or its features, that can be had now?"""
        known = {*scores.values, *scores.features}
        return any((rule.figure if rule.of else rule.rows) not in known for rule in self._meters)

    def __call__(
        self,
        generated: Footage,
        reference: Footage | None = None,
        person: Person | None = None,
        asked: Asked | None = None,
    ) -> Scores:
        """Measure one clip.

        Args:
            generated: the video.
            reference: the real one.
            person: who it should be; by default whom the reference shows first.
            asked: what was asked of the video, beside its sound.

        Raises:
            VideoError, SpeechError: a file cannot be read, or its picture is less than 64 pixels high or wide.
        """
        scores = Scores()
        for meter in self._meters.values():
            meter.reset()
        rows: tuple[dict[str, list[NDArray[np.float32]]], ...] = {}, {}  # generated, real
        for view in self._reader(generated, reference, person, asked or Asked(), scores.remarks.append):
            looked = not isinstance(view, Look) or len(view.picks) > 0  # the last frames may hold none to look at
            for rule, meter in self._meters.items():
                if looked and isinstance(view, rule.of or ()):
                    lacks = [what for what in rule.takes if what not in view.has]
                    if lacks:
                        scores.missing.setdefault(rule.figure, MISSING[lacks[0]])
                    else:
                        rule.feed(meter, view)
            for real in (False, True) if self._pairs else (False,):
                for name, found in self._features(view, real).items():
                    rows[real].setdefault(name, []).append(found)
            if isinstance(view, Whole) and "dlib" in view.embeddings and "face" in view.has:
                scores.likeness = view.likeness
        for rule, meter in self._meters.items():
            if rule.of:
                scores.values[rule.figure] = float(meter.compute()) if meter.update_count else math.nan
        scores.missing = {name: why for name, why in scores.missing.items() if math.isnan(scores.values[name])}
        ours, theirs = ({name: np.concatenate(parts) for name, parts in side.items()} for side in rows)
        scores.features, scores.real_features = ours, theirs if self._pairs and reference is not None else None
        return scores

    def _features(self, view: Look | Piece | Whole, real: bool) -> Features:
        """What a view adds to the figures of all clips together."""
        if isinstance(view, Look):
            frames = view.chunk.reference if real else view.chunk.generated
            if frames is None:
                return {}
            networks_here = {rule.figure: meter for rule, meter in self._meters.items() if rule.kind in (FID, FVD)}
            return {
                name: network.features(frames[view.picks] if name == FID.figure else frames)
                for name, network in networks_here.items()
                if name == FVD.figure or len(view.picks)
            }
        if isinstance(view, Piece):
            landmarks = view.real_landmarks if real else view.landmarks
            if landmarks is not None:
                return movement_rows(self._rig, landmarks)
        return {}

    def movement(self, footage: Footage) -> Features:
        """How the face moves, of which diversity is made; nothing else of the video is judged.

        Raises:
            VideoError: it cannot be read.
        """
        return movement_rows(self._rig, self._reader.track(footage))

    def diversity(self, takes: Sequence[Features]) -> dict[str, float]:
        """The figures of diversity of a clip's takes with two seeds or more, as :meth:`movement` has them."""
        expression, head = ExpressionDiversity(), HeadDiversity()
        expression.update([take["coefficients"] for take in takes], self._rig)
        head.update([take["rotation"] for take in takes])
        return {metric.figure: float(metric.compute()) for metric in (expression, head)}

    def figures(self, clips: Sequence[Scores], real: Iterable[Features] | None = None) -> list[Figure]:
        """All figures over clips, in the order of ``RULES``.

        Args:
            clips: what was measured.
            real: features of the real videos; those of the clips' references by default.
        """
        if real is None:
            real = [clip.real_features for clip in clips if clip.real_features is not None]
        return [self._figure(rule, clips, list(real)) for rule in RULES]

    def _figure(self, rule: Rule, clips: Sequence[Scores], real: Sequence[Features]) -> Figure:
        name, unit, higher = rule.figure, rule.kind.unit, rule.kind.higher_is_better
        if name in self.missing:
            return Figure(name, unit=unit, higher_is_better=higher, reason=self.missing[name])
        if rule.of is None:
            value = together(rule, [clip.features for clip in clips], real)
            if math.isnan(value):
                return Figure(name, unit=unit, higher_is_better=higher, reason=MISSING["rows" if real else "reference"])
            return Figure(name, value, unit, higher, n=sum(_known(clip.features, rule) for clip in clips))
        figure = Figure.over_clips(name, [clip.values[name] for clip in clips], unit, higher)
        reasons = [clip.missing[name] for clip in clips if name in clip.missing]
        if not figure.n and reasons:
            return Figure(name, unit=unit, higher_is_better=higher, reason=reasons[0])
        return figure


def together(rule: Rule, generated: Iterable[Features], real: Iterable[Features]) -> float:
    """A figure of all clips' features against all real ones; NaN where a side has too few rows."""
    metric: Any = None
    for side, clips in ((False, generated), (True, real)):
        for rows in (clip[rule.rows] for clip in clips if rule.rows in clip):
            if metric is None:
                is_distance = issubclass(rule.kind, FrechetDistance)  # without the network that its features took
                metric = FrechetDistance(rows.shape[1]) if is_distance else rule.kind(**rule.options)
            metric.update(rows, real=side)
    return math.nan if metric is None else float(metric.compute())


def _known(features: Features, rule: Rule) -> bool:
    """Does a clip add anything to a figure of all clips together?"""
    return rule.rows in features and bool(np.isfinite(features[rule.rows]).all(1).any())
