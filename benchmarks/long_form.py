"""Progressive fusion over a long video: borders of segments, identity, and memory.

    python benchmarks/long_form.py [--seconds 60] [--steps 6] [--json FILE]
    python benchmarks/long_form.py --memory 10 60 600 [--json FILE]

A portrait speaks for so long, generated from noise by the embedded tier with segments of 16 frames, once overlapping
by 8 and blended at every step (MAGIC-Talk, section 3.4), once side by side; both with one noise for all frames, as the
embedded tier does, and with noise of each frame's own, as the paper does. Flicker: the mean change of pixels from one
frame to the next, at borders over inside. Drift: the cosine of dlib's embedding with the first second's, lost from the
first to the last tenth. Memory: the peak of a process of its own for each length, with one step.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from minutes import said
from numpy.typing import NDArray
from skimage import data
from table import Row, add_json_option, report, row

from magictalk.animation import animate
from magictalk.face.landmarks import FaceDetector
from magictalk.face.recognition import FaceRecogniser
from magictalk.metrics.functional.identity import cosine
from magictalk.render.diffusion import tiers
from magictalk.render.diffusion.fusion import FRAMES, OVERLAP
from magictalk.systems.magic_talk import drawing_of


def generated(
    seconds: float, steps: int, overlap: int, shared: float, weights: Path | None
) -> Iterator[NDArray[np.uint8]]:
    """Frames of the astronaut who speaks."""
    drawing = drawing_of(init="noise", steps=steps, frames=FRAMES, overlap=overlap, shared=shared)
    networks = tiers.nano(*(weights / part for part in ("vae", "reference", "animate"))) if weights else tiers.nano()
    return animate(data.astronaut(), said(seconds), drive="variational", drawing=drawing, networks=networks).frames()


def figures(name: str, frames: Iterator[NDArray[np.uint8]], stride: int) -> list[Row]:
    """Flicker at borders over inside, and drift."""
    changes: list[float] = []
    faces: list[NDArray[np.float32] | None] = []
    detector, recogniser = FaceDetector(), FaceRecogniser()
    before: NDArray[np.float32] | None = None
    for t, frame in enumerate(frames):
        now = frame.astype(np.float32)
        if before is not None:
            changes.append(float(np.abs(now - before).mean()))
        before = now
        if t % 5 == 0:
            large = np.repeat(np.repeat(frame, 3, 0), 3, 1)
            seen = detector(large)
            faces.append(recogniser(large, seen[0].landmarks) if seen else None)
    border = np.arange(1, len(changes) + 1) % stride == 0
    change = np.array(changes)
    first = np.mean([f for f in faces[:5] if f is not None], axis=0)
    known = np.array([np.nan if f is None else cosine(f[None], first)[0] for f in faces], float)
    tenth = max(1, len(known) // 10)
    return [
        row(f"{name}: change at borders", float(change[border].mean()), "levels"),
        row(f"{name}: change inside of segments", float(change[~border].mean()), "levels"),
        row(f"{name}: borders over inside", float(change[border].mean() / change[~border].mean()), "x"),
        row(f"{name}: likeness lost over the video", float(np.nanmean(known[:tenth]) - np.nanmean(known[-tenth:])),
            "cosine"),
        row(f"{name}: frames without a face", float(np.isnan(known).mean()), "share"),
    ]  # fmt: skip


def peak_mb(seconds: float, weights: Path | None) -> float:
    """Peak memory of a process that generates so long a video in one step."""
    command = [sys.executable, __file__, "--case", str(seconds), *(("--weights", str(weights)) if weights else ())]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    return float(json.loads(result.stdout.strip().splitlines()[-1]))


def memory(lengths: list[float], weights: Path | None) -> list[Row]:
    """Peaks for each length, and whether they grow."""
    peaks = [peak_mb(seconds, weights) for seconds in lengths]
    rows = [row(f"peak memory, {s:g} s", p, "MB") for s, p in zip(lengths, peaks, strict=True)]
    if len(peaks) > 1:
        growth = peaks[-1] - peaks[0]
        name = f"memory growth from {lengths[0]:g} to {lengths[-1]:g} s"
        rows.append(row(name, growth, "MB", "< 100 (flat)", growth < 100))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--memory", nargs="+", type=float, help="seconds; memory only")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--weights", type=Path, help="a folder with vae, reference and animate, not the package's")
    parser.add_argument("--case", type=float, help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.case:
        for _ in generated(options.case, 1, OVERLAP, 1.0, options.weights):
            pass
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return
    if options.memory:
        report("long form, memory", memory(options.memory, options.weights), options.json)
        return
    rows: list[Row] = []
    for shared, noise in ((1.0, "one noise"), (0.0, "noises")):
        for overlap, joined in ((OVERLAP, "fused"), (0, "side by side")):
            frames = generated(options.seconds, options.steps, overlap, shared, options.weights)
            rows += figures(f"{noise}, {joined}", frames, FRAMES - overlap)
    report(f"long form, {options.seconds:g} s", rows, options.json)


if __name__ == "__main__":
    main()
