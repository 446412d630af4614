"""MCDM over minutes: with the archived clip and without (the paper's figure 5), and what a frame costs meanwhile.

    python benchmarks/mcdm_long.py [--frames 15000] [--steps 6] [--init noise] [--weights FOLDER] [--json FILE]
        [--picture docs/mcdm_long.png] [--plot docs/mcdm_cost.png]

A portrait speaks for so many frames (ten minutes), by the embedded tier. At frames 30, 300, 1800, 3600 and 7200, in the
second before each: SSIM with the rig's frame of the same motion, likeness to the portrait (cosine of dlib's
embeddings), how far the mean colour is from the portrait's, the process's memory, and what a frame takes: seconds of
processors, which other work beside does not change much. Then without the anchor, so as in the paper, and without the
archived clip, where the archive holds the portrait throughout; these end with the last of those frames. The picture
shows those frames; the plot, memory and cost against time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from minutes import Seen, Watch, said
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from skimage import data
from table import Row, add_json_option, report, row

from magictalk.animation import clip_networks
from magictalk.drive.speakers import speaker
from magictalk.metrics.functional.image import ssim
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion.clip_render import ClipRender
from magictalk.render.diffusion.render import resized
from magictalk.systems import mcdm

PLACES = 30, 300, 1800, 3600, 7200
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "with the archived clip": ({}, True),
    "without its anchor": ({"anchor": 0.0}, True),
    "without the archived clip": ({}, False),
}
"""How they are drawn, and whether the archive goes on."""
AROUND = 25
"""Frames up to a place that are looked at, of which each fifth is."""
TILE = 192


def motion(frames: int, drive: str) -> Iterator[Motion]:
    """The sentence again and again."""
    yield from speaker(drive)(said(frames / FPS))  # type: ignore[arg-type]


def against(frame: NDArray[np.uint8], seen: Seen, render: ClipRender, asked: NDArray[np.float32]) -> dict[str, float]:
    """What is seen, and how like the rig's frame of the same motion it is."""
    rig = resized(render.rig.draw(asked[:-6], asked[-6:]), frame.shape[0])
    return {"SSIM": float(ssim(frame, rig)), "Face-sim": seen.likeness, "colour drift": seen.colour}


def watched(
    name: str, render: ClipRender, frames: int, drive: str
) -> tuple[list[Row], list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Figures at each place, the frames there, and seconds and megabytes a second of video ``[n, 2]``."""
    watch, process = Watch(render.portrait), psutil.Process()
    asked: list[NDArray[np.float32]] = []

    def noted() -> Iterator[Motion]:
        for chunk in motion(frames, drive):
            asked.extend(np.concatenate([chunk.coefficients, chunk.head], 1))
            yield chunk

    seen: dict[int, list[dict[str, float]]] = {place: [] for place in PLACES if place <= frames}
    shown, costs, since, spent = [], [], time.process_time(), 0.0
    for t, frame in enumerate(track(render(noted()), name, total=frames, console=Console(stderr=True)), 1):
        spent += time.process_time() - since
        for place in seen:
            if place - AROUND < t <= place and t % 5 == 0:
                seen[place].append(against(frame, watch(frame), render, asked[t - 1]))
        if t in seen:
            shown.append(frame)
        if t % 400 == 0 or t == frames:  # whole clips and whole sentences' worth of frames
            count = 400 if t % 400 == 0 else t % 400
            costs.append((spent / count, process.memory_info().rss / 2**20))
            spent = 0.0
        since = time.process_time()
    rows = []
    for place, found in seen.items():
        for what, unit in (("SSIM", ""), ("Face-sim", "cosine"), ("colour drift", "levels")):
            values = [each[what] for each in found if np.isfinite(each[what])]  # no face, no likeness
            if values:
                rows.append(row(f"{name}, frame {place}: {what}", float(np.mean(values)), unit))
        at = min(len(costs) - 1, max(0, place // 400 - 1))
        rows.append(row(f"{name}, frame {place}: memory", costs[at][1], "MB"))
        rows.append(row(f"{name}, frame {place}: cost", costs[at][0], "CPU s"))
    return rows, shown, np.array(costs)


def plot(costs: dict[str, NDArray[np.float64]], path: Path) -> None:
    """What a frame takes and the process's memory against the video's length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    for axes, which, what in zip(figure.subplots(2, 1, sharex=True), (0, 1), ("CPU s a frame", "MB"), strict=True):
        for name, values in costs.items():
            axes.plot(400 / FPS * np.arange(1, len(values) + 1), values[:, which], label=name)
        axes.set(ylabel=what, ylim=(0, None))
        axes.grid(alpha=0.3)
    axes.set(xlabel="seconds of video")
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=15000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--init", choices=("noise", "rig"), default="noise")
    parser.add_argument("--drive", default="mcdm")
    parser.add_argument("--picture", type=Path, default=Path("docs/mcdm_long.png"))
    parser.add_argument("--plot", type=Path, default=Path("docs/mcdm_cost.png"))
    parser.add_argument("--weights", type=Path, help="a folder with tokens and clips, not the package's")
    add_json_option(parser)
    options = parser.parse_args()
    own = [options.weights / part for part in ("clips", "tokens")] if options.weights else []
    portrait = Portrait.from_array(data.astronaut())
    rows: list[Row] = []
    costs, lines = {}, []
    longest = next(iter(CASES))
    for name, (how, history) in CASES.items():
        drawing = mcdm.drawing_of(init=options.init, steps=options.steps, **how)
        render = ClipRender(portrait, drawing, clip_networks(*own, history=history))
        frames = options.frames if name == longest else min(options.frames, PLACES[-1])
        found, shown, costs[name] = watched(name, render, frames, options.drive)
        rows += found
        lines.append(np.hstack([cv2.resize(f, (TILE, TILE), interpolation=cv2.INTER_CUBIC) for f in shown]))
    cv2.imwrite(str(options.picture), np.vstack(lines)[..., ::-1])
    first = costs[longest]
    if len(first) > 2:
        growth, slower = first[-1, 1] - first[1, 1], first[-1, 0] / first[1, 0]
        rows.append(row("memory growth over the video", growth, "MB", "< 50 (flat)", growth < 50))
        rows.append(row("cost of a frame, end over beginning", slower, "x", "< 1.2 (flat)", slower < 1.2))
    plot(costs, options.plot)
    report(f"MCDM over {options.frames} frames", rows, options.json)


if __name__ == "__main__":
    main()
