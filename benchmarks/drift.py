"""Drift of a video that goes on from its own frames (PortraitTalk); without its anchor; without the frame before.

    python benchmarks/drift.py [--seconds 60] [--steps 8] [--picture docs/drift.png] [--weights FOLDER] [--json FILE]

A portrait speaks for so long, frame after frame out of noise, by the embedded tier. Against time: the likeness to the
portrait (cosine of dlib's embeddings), the mean colour's distance from the portrait's, how far the head is from where
it was asked to be, and how much pixels change from frame to frame. Figures are of the last tenth of the video against
the first; memory is the process's peak.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from minutes import Seen, Watch, said
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from skimage import data
from table import Row, add_json_option, report, row

from magictalk.drive.speakers import speaker
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion import tiers
from magictalk.render.diffusion.portraits import PortraitRender
from magictalk.render.diffusion.sequence import Step
from magictalk.systems.portrait_talk import drawing_of

EVERY = 5
"""Frames between two that are looked at."""
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "without the anchor": {"anchor": 0.0},
    "without temporal attention": {"weights": {"previous": 0.0}},
}
SEEN = {"likeness": "cosine", "colour": "levels", "head": "% of the picture", "change": "levels"}
"""What is measured, and in what."""


def motion(seconds: float) -> Iterator[Motion]:
    """The sentence again and again."""
    yield from speaker("variational")(said(seconds))


def against(seen: Seen, step: Step, side: int) -> dict[str, float]:
    """What is seen against what was asked for."""
    away = float("nan")
    if seen.mesh is not None:
        away = 100 * float(np.linalg.norm(seen.mesh.mean(0) - step.mesh[:, :2].mean(0))) / side
    return {"likeness": seen.likeness, "colour": seen.colour, "head": away}


def watched(render: PortraitRender, seconds: float, name: str) -> list[dict[str, float]]:
    """Every fifth frame of a video, as it is seen."""
    watch = Watch(render.portrait)
    asked = list(render.steps(motion(seconds)))
    before: NDArray[np.uint8] | None = None
    seen = []
    frames = track(render(motion(seconds)), name, total=len(asked), console=Console(stderr=True))
    for t, frame in enumerate(frames):
        change = 0.0 if before is None else float(np.abs(frame.astype(int) - before).mean())
        before = frame
        if t % EVERY == 0 and t:
            seen.append(against(watch(frame), asked[t], len(frame)) | {"change": change})
    return seen


def rows_of(name: str, seen: list[dict[str, float]]) -> list[Row]:
    """The first tenth, the last tenth."""
    tenth = max(1, len(seen) // 10)
    rows = []
    for what, unit in SEEN.items():
        curve = np.array([each[what] for each in seen])
        for part, some in (("first", curve[:tenth]), ("last", curve[-tenth:])):
            if not np.isnan(some).all():  # else no face was found, which is a figure of its own
                rows.append(row(f"{name}: {what}, {part} tenth", float(np.nanmean(some)), unit))
    lost = float(np.mean([np.isnan(each["likeness"]) for each in seen]))
    return [*rows, row(f"{name}: frames without a face", lost, "share")]


def plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """All measures against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, (what, unit) in zip(figure.subplots(len(SEEN), 1, sharex=True), SEEN.items(), strict=True):
        for name, seen in curves.items():
            axes.plot([EVERY * (i + 1) / FPS for i in range(len(seen))], [each[what] for each in seen], label=name)
        axes.set(ylabel=f"{what}\n({unit})")
        axes.grid(alpha=0.3)
    axes.set(xlabel="seconds")
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--picture", type=Path, default=Path("docs/drift.png"))
    parser.add_argument("--weights", type=Path, help="a folder with identity and animate, not the package's")
    add_json_option(parser)
    options = parser.parse_args()
    own = [options.weights / part for part in ("identity", "animate")] if options.weights else []
    networks = tiers.nano_portrait(*own)
    portrait = Portrait.from_array(data.astronaut())
    curves = {}
    for name, how in CASES.items():
        drawing = drawing_of(init="noise", steps=options.steps, **how)
        curves[name] = watched(PortraitRender(portrait, drawing, networks), options.seconds, name)
    rows = [each for name, seen in curves.items() for each in rows_of(name, seen)]
    rows.append(row("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MB"))
    plot(curves, options.picture)
    report(f"drift of PortraitTalk, {options.seconds:g} s", rows, options.json)


if __name__ == "__main__":
    main()
