"""Generated videos against real ones: which belongs to which, every figure of each pair, and all of them together."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from magictalk.data.sources import find_videos
from magictalk.errors import DatasetError, MagicTalkError, OptionError
from magictalk.metrics.footage import RULE, Footage
from magictalk.metrics.report import Report
from magictalk.metrics.rules import Asked
from magictalk.metrics.scoring import EVERY, Scorer, Scores

Spans = list[tuple[float, float]]
"""Starts and ends in seconds."""

BILABIALS = ("p", "b", "m")
"""Sounds that need closed lips."""


def evaluate(
    generated: Path,
    reference: Path | None = None,
    *,
    portrait: Path | None = None,
    text: str | None = None,
    emotion: str | None = None,
    phonemes: Path | None = None,
    weights: Path | None = None,
    every: int = EVERY,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Measure a video, or a folder of them, by :data:`magictalk.metrics.footage.RULE`.

    Args:
        generated: a video, or a folder of videos.
        reference: the real video, or a folder of real ones, paired by their paths in the folders without suffix.
        portrait: a picture of the person, for the figures of identity where there is no real video.
        text: the prompt, for CLIP-T.
        emotion: the one that was asked for, as the classifier names it.
        phonemes: when p, b and m are said; see :func:`read_spans`.
        weights: folder of networks that some figures need; see :mod:`magictalk.metrics.networks`.
        every: costly figures look at every so many frames only.
        progress: told of the pair at hand, pairs done and pairs in all.

    Raises:
        MagicTalkError: when nothing can be measured: a file that cannot be read, an empty folder, no pair, an emotion
            that the classifier does not know. In a folder a pair that cannot be measured is remarked and left out.
    """
    pairs, remarks = find_pairs(generated, reference)
    spans = None if phonemes is None else read_spans(phonemes)
    scorer = Scorer(weights, every)
    scorer.check(Asked(text, emotion))
    person = None if portrait is None else scorer.person(portrait)
    scores: dict[str, Scores] = {}
    for done, pair in enumerate(pairs):
        if progress:
            progress(pair.name, done, len(pairs))
        try:
            real = None if pair.reference is None else Footage.open(pair.reference)
            said = None if spans is None else spans.get(_key(pair.name), spans.get(""))
            scores[pair.name] = scorer(Footage.open(pair.generated), real, person, Asked(text, emotion, said))
        except MagicTalkError as error:
            if len(pairs) == 1:
                raise
            remarks.append(f"left out: {pair.name}: {error}")
    if not scores:
        raise DatasetError(f"none of the {len(pairs)} videos in {generated} can be measured; first: {remarks[-1]}")
    of = f"{len(scores)} videos" if generated.is_dir() else generated.name
    title = f"{of} against {reference.name}" if reference else of
    clips = list(scores.values())
    remarks += [remark for clip in clips for remark in clip.remarks]
    likeness = {n: {i * every: float(s) for i, s in enumerate(clip.likeness)} for n, clip in scores.items()}
    return Report(title, scorer.figures(clips), [RULE, scorer.sampling, *remarks], likeness)


@dataclass(frozen=True)
class Pair:
    """A generated video, its path in its folder, and the real one it is compared with, if any."""

    name: str
    generated: Path
    reference: Path | None = None


def find_pairs(generated: Path, reference: Path | None) -> tuple[list[Pair], list[str]]:
    """What is compared with what, and remarks on videos that have no partner.

    Partners have the same path in their folders, whatever their suffixes.

    Raises:
        DatasetError: when a path does not exist, a folder holds no video or two of one name, or none has a partner.
        OptionError: when one is a file and the other a folder.
    """
    if reference is None:
        return [Pair(name, path) for name, path in _videos(generated)], []
    for path in (generated, reference):
        if not path.exists():
            raise DatasetError(f"no file or folder at {path}; expected videos")
    if generated.is_dir() != reference.is_dir():
        file, folder = (reference, generated) if generated.is_dir() else (generated, reference)
        raise OptionError(f"{folder} is a folder and {file} a file; expected two of a kind")
    if not generated.is_dir():
        return [Pair(generated.name, generated, reference)], []
    ours, theirs = _by_key(generated), _by_key(reference)
    alone = [f"left out: {name} has no partner in {reference}" for k, (name, _) in ours.items() if k not in theirs]
    alone += [f"left out: {name} has no partner in {generated}" for k, (name, _) in theirs.items() if k not in ours]
    pairs = [Pair(*ours[key], theirs[key][1]) for key in ours if key in theirs]
    if not pairs:
        raise DatasetError(
            f"no video in {generated} has the name of one in {reference}; expected pairs such as a.mp4 and a.mov, in "
            "sub-folders of the same names if in any"
        )
    return pairs, alone


def _videos(place: Path) -> list[tuple[str, Path]]:
    """A video, or those in a folder, each with its path in that folder."""
    root = Path(os.path.abspath(place if place.is_dir() else place.parent))  # as find_videos has it
    return [(path.relative_to(root).as_posix(), path) for path in find_videos([place])]


def _by_key(folder: Path) -> dict[str, tuple[str, Path]]:
    found: dict[str, tuple[str, Path]] = {}
    for name, path in _videos(folder):
        key = _key(name)
        if key in found:
            raise DatasetError(f"{found[key][1]} and {path} have one name; expected one video a name")
        found[key] = name, path
    return found


def _key(name: str) -> str:
    """A video's path in its folder without suffix: what its partner and its phoneme times are found by."""
    return PurePosixPath(name).with_suffix("").as_posix()


def read_spans(path: Path) -> dict[str, Spans]:
    """When p, b and m are said, by clip name; the name ``""`` stands for every clip.

    Args:
        path: ``.csv`` with the columns ``start``, ``end`` (seconds), ``phoneme`` and, where it tells of more than one
            clip, ``clip`` (its path in the folder without suffix); or ``.json``, a list of objects with these names.

    Raises:
        OptionError: when it cannot be read so, or tells of no p, b or m.
    """
    if not path.is_file():
        raise OptionError(f"no phoneme times at {path}")
    try:
        if path.suffix.lower() == ".json":
            rows: Sequence[dict[str, str]] = json.loads(path.read_text("utf-8"))
        else:
            rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        spans: dict[str, Spans] = {}
        for row in rows:
            if str(row["phoneme"]).strip().lower() in BILABIALS:
                spans.setdefault(str(row.get("clip") or ""), []).append((float(row["start"]), float(row["end"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
        reason = f"no {cause}" if isinstance(cause, KeyError) else " ".join(str(cause).split())
        raise OptionError(
            f"{path} holds no phoneme times ({reason}); expected start, end, phoneme and maybe clip, as .csv or .json"
        ) from cause
    if not spans:
        raise OptionError(f"{path} tells of no {', '.join(BILABIALS)}; expected when they are said")
    return spans
