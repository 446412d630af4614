"""Speed: compute seconds per second of video, first-frame delay and peak memory, end to end.

    python benchmarks/speed.py [--drives emodiff audio2bs] [--sizes 512x512 1920x1080] [--seconds 10 60 600]
        [--json FILE]

Each case runs in a process of its own: open the portrait and the sound, load the networks, drive, render, encode, write
the file. Python's imports are timed apart. The portrait is the astronaut, enlarged to the asked size (wider pictures
get plain margins); the sound is TTS speech, repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import Row, add_json_option, report, row

TEXT = (
    "The quick brown fox jumps over the lazy dog, and then it sits down by the river to think about what it has done. "
    "People who walk past stop for a moment, smile, and go on their way; the morning is mild, and nobody is in a hurry."
)
TARGETS = {"emodiff": 0.6, "audio2bs": 0.5}
"""Seconds of computing per second of video of each drive, at ``TARGET_SIZE``."""
TARGET_SIZE = "512x512"
FIRST_FRAME_TARGET_S = 1.5
MEMORY_TARGET_MB = 1500


def run_case(drive: str, width: int, height: int, seconds: float, folder: Path) -> None:
    """One measured run in this process; prints one JSON line."""
    import cv2
    import numpy as np
    from skimage import data

    start = time.perf_counter()
    import magictalk
    import magictalk.drive.audio2bs
    import magictalk.drive.emodiff
    import magictalk.render.rig
    from magictalk.face.landmarks import mediapipe_solutions
    from magictalk.speech import Speech

    mediapipe_solutions()
    imports = time.perf_counter() - start
    side = min(width, height)
    picture = cv2.resize(data.astronaut(), (side, side), interpolation=cv2.INTER_CUBIC)
    pad = (width - side) // 2
    picture = cv2.copyMakeBorder(picture, 0, 0, pad, width - side - pad, cv2.BORDER_REPLICATE)
    voice = Speech.say(TEXT).samples()
    speech = Speech.from_array(np.tile(voice, int(seconds * 16000 / len(voice)) + 1)[: int(seconds * 16000)], 16000)

    start = time.perf_counter()
    animation = magictalk.animate(picture, speech, drive=drive)  # type: ignore[arg-type]
    marks: dict[str, float] = {}

    def progress(*_: object) -> None:
        marks.setdefault("first", time.perf_counter() - start)

    animation.save(folder / "speed.mp4", overwrite=True, progress=progress)
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"imports": imports, "total": total, "peak_mb": peak, **marks}))


def rows_of(drive: str, size: str, lengths: list[float]) -> list[Row]:
    """Figures of a drive at a size, for videos of these lengths in seconds."""
    rows, peaks = [], []
    judged = size == TARGET_SIZE
    for seconds in lengths:
        case = measured(drive, size, seconds)
        name, factor, peak = f"{drive}, {size}, {seconds:g} s", case["total"] / seconds, case["peak_mb"]
        peaks.append(peak)
        most = TARGETS[drive]
        for figure, value, unit, target, met in (
            ("compute per second of video", factor, "s/s", f"<= {most}", factor <= most),
            ("first frame after, weights loaded anew", case["first"], "s", f"<= {FIRST_FRAME_TARGET_S}",
             case["first"] <= FIRST_FRAME_TARGET_S),
            ("imports, apart", case["imports"], "s", None, None),
            ("peak memory", peak, "MB", f"< {MEMORY_TARGET_MB}", peak < MEMORY_TARGET_MB),
        ):  # fmt: skip
            rows.append(row(f"{name}: {figure}", value, unit, *((target, met) if judged else ())))
    if len(peaks) > 1 and judged:
        growth = peaks[-1] - peaks[0]
        label = f"{drive}, {size}: memory growth from {lengths[0]:g} to {lengths[-1]:g} s"
        rows.append(row(label, growth, "MB", "< 100 (flat)", growth < 100))
    return rows


def measured(drive: str, size: str, seconds: float) -> dict[str, float]:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        case = [drive, *size.split("x"), str(seconds), folder]
        command = [sys.executable, __file__, "--case", *case]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    figures: dict[str, float] = json.loads(result.stdout.strip().splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", nargs="+", default=["emodiff"], choices=list(TARGETS))
    parser.add_argument("--sizes", nargs="+", default=["512x512", "1920x1080", "3840x2160"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[10, 60, 600])
    parser.add_argument("--case", nargs=5, help=argparse.SUPPRESS)
    add_json_option(parser)
    args = parser.parse_args()
    if args.case:
        drive, width, height, seconds, folder = args.case
        run_case(drive, int(width), int(height), float(seconds), Path(folder))
        return
    begun = time.perf_counter()
    rows = [r for drive in args.drives for size in args.sizes for r in rows_of(drive, size, args.seconds)]
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    report(f"Speed on {machine}", rows, args.json)
    print(f"took {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
