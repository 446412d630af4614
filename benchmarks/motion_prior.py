"""MCDM's motion prior on a dataset's clips: lips against the real ones, heads as fast and as far, none that jump.

    python benchmarks/motion_prior.py --data out/dataset [--split val] [--clips N] [--json FILE]

The drive as it is, begun with other noise, and two other drives; each clip has a seed of its own. Correlations and
spreads (standard deviations over the real ones', medians over clips) are those of the mean face's inner-lip gap, mouth
width and jaw; a head's speed and spread are means over the real ones', its rotation smoothed as the benchmark's figures
have it. The last figure is how fast heads are from the last frame of a window to the first of the next, over how fast
they are elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from drives import add_data_options, lip_correlations, read_clips
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from table import Row, add_json_option, report, row

from magictalk import Speech
from magictalk.drive.motion_prior import HOP, LEARNT, MotionPriorDrive
from magictalk.drive.speakers import Speaker, speaker
from magictalk.face.rig import Rig
from magictalk.metrics.functional.movement import head_speeds
from magictalk.metrics.lips import MEASURES
from magictalk.metrics.movement import SMOOTH_S
from magictalk.motion import Motion


def between_windows(motions: list[Motion]) -> float:
    """Mean speed of heads where a window of the prior ends over that elsewhere."""
    speeds = [head_speeds(motion.head[:, :3]) for motion in motions]
    ends = [np.arange(1, len(speed) + 1) % HOP == 0 for speed in speeds]
    speed, end = np.concatenate(speeds), np.concatenate(ends)
    return float(speed[end].mean() / speed[~end].mean())


def speed(turns: list[NDArray[np.float32]]) -> float:
    """How fast heads turn, mean over all frames, from rotation vectors ``[T, 3]``; NaN where no face is seen."""
    return float(np.concatenate([head_speeds(turn, SMOOTH_S) for turn in turns]).mean())


def spread(turns: list[NDArray[np.float32]]) -> float:
    """Standard deviation of those, mean over clips."""
    return float(np.mean([np.nanstd(turn, 0).mean() for turn in turns]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    parser.add_argument("--threads", type=int, default=2)
    add_json_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips, rig, prior = read_clips(options), Rig.load(), MotionPriorDrive.load()
    begun = partial(MotionPriorDrive, prior.tokens, prior.prior, prior.ear)
    drives: dict[str, Callable[[int], Speaker]] = {  # of a seed
        "mcdm": lambda seed: begun(seed=seed),
        "mcdm, noise as learnt": lambda seed: begun(seed=seed, poles=LEARNT),
        "mcdm, temperature 1": lambda seed: begun(seed=seed, temperature=(1.0, 1.0, 1.0)),
        "mcdm, temperature 0.5": lambda seed: begun(seed=seed, temperature=(0.5, 0.5, 0.5)),
        "audio2bs": lambda seed: speaker("audio2bs", seed=seed),
        "variational": lambda seed: speaker("variational", seed=seed),
    }
    shapes = [clip.pose.to_face(clip.landmarks)[clip.seen] for clip in clips]
    turns = [np.where(clip.seen[:, None], clip.motion.head[:, :3], np.nan) for clip in clips]
    rows: list[Row] = []
    for name, drive in drives.items():
        bar = track(clips, name, console=Console(stderr=True))
        motions = [
            Motion.concatenate(list(drive(seed)(Speech.from_array(clip.samples, 16000))))
            for seed, clip in enumerate(bar)
        ]
        correlations = lip_correlations(motions, clips, rig)
        for what, measure in MEASURES.items():
            rows.append(row(f"{name}: {what}", correlations[what], "r"))
            spreads = [np.std(measure(rig.vertices(motion.coefficients))) for motion in motions]
            real = [np.std(measure(shape)) for shape in shapes]
            rows.append(row(f"{name}: {what}'s spread", float(np.median(spreads) / np.median(real)), "of real"))
        made = [motion.head[:, :3] for motion in motions]
        rows.append(row(f"{name}: head's speed", speed(made) / speed(turns), "of real"))
        rows.append(row(f"{name}: head's spread", spread(made) / spread(turns), "of real"))
        if name.startswith("mcdm"):
            apart = between_windows(motions)
            rows.append(row(f"{name}: head's speed between windows", apart, "of elsewhere", "< 1.3", apart < 1.3))
    report(f"MCDM's motion prior, {len(clips)} clips of {options.split}", rows, options.json)


if __name__ == "__main__":
    main()
