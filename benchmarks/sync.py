"""Does the lip-sync expert tell a mouth that belongs to its sound from one that does not, on people it never saw?

    python benchmarks/sync.py [--data ../shared/data] [--split test] [--tracks DIR] [--weights sync] [--json FILE]

On the videos of a split (never the generated ones, nor those whose sound is another's), for both inputs, ARKit
coefficients and mouth pictures:

* a second of mouth (every 0.2 s of the video) against its own sound and against the sound 0.2 to 0.6 s away: how often
  the own one scores higher, and how often one common threshold sorts both;
* the offset that a whole video shows, to the nearest frame as SyncNet's is, against the one its data's manifest or
  README states (0 where they state none). Those are weak labels, found by a linear model of mouth opening, so two
  figures do without them: a second judged at the offset that the other half of its video shows, and the offset against
  the one at which the lips that Audio2BS predicts from the sound fit the real ones best (another network, of another
  task, but trained on the same people);
* a video whose sound is put off by 0.12 s: whether that is found out;
* the sound of another video: its mean cosine, and what the data filter would say.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clips import data_folder
from numpy.typing import ArrayLike, NDArray
from table import Row, add_json_option, report, row
from tracks import read_manifest, tracked

from magictalk.drive.audio2bs import Audio2BSDrive
from magictalk.errors import MotionError
from magictalk.face.rig import Rig, inner_lip_gap, jaw_drop, mouth_width
from magictalk.metrics.functional.lips import find_offset
from magictalk.motion import FPS, Motion
from magictalk.sync import MAX_LAG, Sync, SyncJudge, compare, means_by_lag, mouth_crops, verdict
from magictalk.video import read_frames

SECOND = 25
FAR = [lag for lag in range(-15, 16) if abs(lag) >= 5]
DELAY_S = 0.12
INPUTS = ("coefficients", "pictures")


@dataclass(frozen=True)
class Video:
    """One video: its sound, its lips as coefficients ``[T, 52]`` and as pictures ``[T, 64, 80]``.

    ``offset_s`` is what the manifest states, ``predicted_s`` what Audio2BS's prediction shows.
    """

    name: str
    offset_s: float
    predicted_s: float
    samples: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    crops: NDArray[np.uint8]

    def cosines(self, judge: SyncJudge, kind: str, samples: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Cosines ``[T, 61]`` by lag of every mouth with its own sound, or another's."""
        sound = self.samples if samples is None else samples
        if kind == "coefficients":
            return judge.cosines_of_coefficients(self.coefficients, sound, 2 * MAX_LAG)
        return judge.cosines_of_crops(self.crops, sound, 2 * MAX_LAG)


def read(data: Path, split: str, tracks: Path) -> list[Video]:
    """Videos of a split; tracked first where not yet."""
    rig, drive, videos = Rig.load(), Audio2BSDrive.load(), []
    for entry in read_manifest(data):
        if entry.split != split or entry.licence_class in ("generated", "expression"):
            continue
        try:
            clip = tracked(entry, tracks)
        except MotionError as error:
            print(f"left out: {error}")
            continue
        coefficients = rig.fit_video(clip.landmarks).coefficients
        frames = list(read_frames(entry.path, FPS))
        frames += frames[-1:] * (len(clip.landmarks) - len(frames))  # sound may outlast the picture
        videos.append(
            Video(
                entry.path.name,
                entry.offset_s,
                predicted_offset(drive, rig, clip.samples, coefficients, clip.seen),
                clip.samples,
                coefficients,
                mouth_crops(frames[: len(clip.landmarks)], clip.landmarks),
            )
        )
    return videos


def predicted_offset(
    drive: Audio2BSDrive,
    rig: Rig,
    samples: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    seen: NDArray[np.bool_],
) -> float:
    """Seconds after which the sound's predicted lips fit the real ones best: gap, width and jaw drop, correlated."""

    def measures(c: NDArray[np.float32]) -> NDArray[np.float64]:
        points = rig.vertices(c).astype(np.float64)
        return np.stack([inner_lip_gap(points), mouth_width(points), jaw_drop(points)], 1)

    heard = Motion.concatenate(list(drive.stream(iter([samples])))).coefficients
    return find_offset(measures(heard), measures(coefficients), seen, limit_s=0.6, gain=0.0)[0]


def seconds(cosines: NDArray[np.float32], shift: int) -> tuple[list[float], list[list[float]]]:
    """Mean cosine of each second of mouth with its own sound, and with the sounds 0.2 to 0.6 s away."""
    own, others = [], []
    for start in range(0, len(cosines) - SECOND + 1, 5):
        means = cosines[start : start + SECOND].mean(0)  # NaN where the sound would lie outside
        middle = len(means) // 2 + shift
        far = [float(means[middle + lag]) for lag in FAR if np.isfinite(means[middle + lag])]
        if np.isfinite(means[middle]) and far:
            own.append(float(means[middle]))
            others.append(far)
    return own, others


def wins(own: list[float], others: list[list[float]]) -> list[float]:
    """How often each second prefers its own sound; its mean as a list, empty where no second could be judged."""
    won = [x > y for x, each in zip(own, others, strict=True) for y in each]
    return [float(np.mean(won))] if won else []


def wins_by_halves(cosines: NDArray[np.float32]) -> list[float]:
    """The same, each half at the offset that the other half shows, so that no frame is judged by its own choice."""
    halves = cosines[: len(cosines) // 2], cosines[len(cosines) // 2 :]
    won = []
    for half, other in (halves, halves[::-1]):
        shift = int(np.nanargmax(means_by_lag(near(other)))) - MAX_LAG
        won += wins(*seconds(half, shift))
    return [float(np.mean(won))] if won else []


def near(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lags that the judge looks at, of cosines by lag that reach further."""
    middle = cosines.shape[1] // 2
    return cosines[:, middle - MAX_LAG : middle + MAX_LAG + 1]


def delayed(samples: NDArray[np.float32], delay_s: float) -> NDArray[np.float32]:
    """The sound, put off: silence first, of the same length."""
    n = round(delay_s * 16000)
    return np.concatenate([np.zeros(n, np.float32), samples[:-n]])


def measure(judge: SyncJudge, videos: list[Video], kind: str) -> tuple[list[Row], list[Sync]]:
    """All figures of one input, and what was found of each video."""
    own, others, stated, halves, predicted = [], [], [], [], []
    found, mixed, late = [], [], []
    for i, video in enumerate(videos):
        cosines = video.cosines(judge, kind)
        mine, far = seconds(cosines, round(video.offset_s * FPS))
        own += mine
        others += [x for each in far for x in each]
        stated += wins(mine, far)
        halves += wins_by_halves(cosines)
        predicted += wins(*seconds(cosines, round(video.predicted_s * FPS)))
        found.append(s := compare(near(cosines)))
        stranger = videos[(i + 1 + len(videos) // 2) % len(videos)].samples
        mixed.append(compare(near(video.cosines(judge, kind, np.resize(stranger, len(video.samples))))))
        late.append(compare(near(video.cosines(judge, kind, delayed(video.samples, DELAY_S)))).offset_s - s.offset_s)
        print(
            f"  {video.name[:40]:40} stated {video.offset_s:+.2f}, by Audio2BS {video.predicted_s:+.3f}, "
            f"found {s.offset_s:+.3f} s, score {s.score:.2f}, "
            f"D {s.distance:.2f}, C {s.confidence:.2f}, {'steady' if s.steady else 'unsteady'}, {verdict(s)[0]}"
        )
    off = np.array([abs(round(s.offset_s * FPS) - round(v.offset_s * FPS)) for s, v in zip(found, videos, strict=True)])
    apart = np.array([abs(s.offset_s - v.predicted_s) * FPS for s, v in zip(found, videos, strict=True)])
    a, b = np.array(own), np.array(others)
    middle = (a.mean() + b.mean()) / 2

    def figure(name: str, values: ArrayLike, unit: str = "", least: float | None = None) -> Row:
        mean = float(np.mean(values))
        return row(f"{kind}: {name}", mean, unit, least and f">= {least}", None if least is None else mean >= least)

    rows = [
        figure("own second over one 0.2 to 0.6 s away", stated, "share", 0.93),
        figure("the same, offset taken from the video's other half", halves, "share"),
        figure("the same, offset taken from Audio2BS", predicted, "share"),
        figure("own and other seconds, sorted by one threshold", [(a > middle).mean(), (b <= middle).mean()], "share"),
        figure("offset within 1 frame of the stated", off <= 1, "share", 0.78),
        figure("offset within 2 frames of the stated", off <= 2, "share", 0.95),
        figure("offset within 1 frame of Audio2BS's", apart <= 1, "share"),
        figure("offset within 2 frames of Audio2BS's", apart <= 2, "share"),
        figure(f"delay of {DELAY_S} s found out", np.abs(np.array(late) - DELAY_S) <= 1 / FPS, "share"),
        figure("own sound kept or corrected by the filter", [verdict(s)[0] != "drop" for s in found], "share"),
        figure("another's sound dropped by the filter", [verdict(s)[0] == "drop" for s in mixed], "share"),
    ]
    for name, syncs in (("own sound", found), ("another's sound", mixed)):
        rows += [
            figure(f"{name}: cosine as it is", [s.score_at_zero for s in syncs]),
            figure(f"{name}: cosine at the best offset", [s.score for s in syncs]),
            figure(f"{name}: Sync-D (magictalk)", [s.distance for s in syncs]),
            figure(f"{name}: Sync-C (magictalk)", [s.confidence for s in syncs]),
        ]
    return rows, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--split", default="test", choices=("test", "val"))
    parser.add_argument("--tracks", type=Path, help="folder that keeps tracked clips; a temporary one by default")
    parser.add_argument("--weights", default="sync", help="name, folder or hub id")
    add_json_option(parser)
    options = parser.parse_args()
    judge = SyncJudge.load(options.weights)
    with tempfile.TemporaryDirectory() as folder:
        videos = read(options.data, options.split, options.tracks or Path(folder))
    rows, found = [], []
    for kind in INPUTS:
        print(f"{kind}:")
        figures, syncs = measure(judge, videos, kind)
        rows += figures
        found.append([s.offset_s for s in syncs])
    apart = np.abs(np.subtract(*found)) * FPS
    rows.append(row("offsets by both inputs within 1 frame of each other", (apart <= 1).mean(), "share"))
    report(f"Lip-sync expert on {len(videos)} videos of unseen speakers ({options.split})", rows, options.json)


if __name__ == "__main__":
    main()
