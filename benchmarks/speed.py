"""Speed: compute seconds per second of video, first-frame delay and peak memory, end to end.

    python benchmarks/speed.py [--sizes 512x512 1920x1080] [--seconds 10 60 600] [--json FILE]

Each case runs in a process of its own: open the portrait and the sound, drive, render, encode, write the file.
Loading (imports and weights) is timed apart. The portrait is the astronaut, enlarged to the asked size (wider pictures
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

from table import add_json_option, report, row

TEXT = (
    "The quick brown fox jumps over the lazy dog, and then it sits down by the river to think about what it has done. "
    "People who walk past stop for a moment, smile, and go on their way; the morning is mild, and nobody is in a hurry."
)
TARGETS = {"512x512": 0.5}
MEMORY_TARGET_MB = 1500


def run_case(width: int, height: int, seconds: float, folder: Path) -> None:
    """One measured run in this process; prints one JSON line."""
    import cv2
    import numpy as np
    from skimage import data

    start = time.perf_counter()
    import magictalk
    from magictalk.drive.audio2bs import Audio2BSDrive
    from magictalk.face.landmarks import FaceDetector
    from magictalk.face.rig import Rig
    from magictalk.speech import Speech

    Audio2BSDrive.load()
    FaceDetector()
    Rig.load()
    import magictalk.render.raster

    loading = time.perf_counter() - start
    side = min(width, height)
    picture = cv2.resize(data.astronaut(), (side, side), interpolation=cv2.INTER_CUBIC)
    pad = (width - side) // 2
    picture = cv2.copyMakeBorder(picture, 0, 0, pad, width - side - pad, cv2.BORDER_REPLICATE)
    voice = Speech.say(TEXT).samples()
    speech = Speech.from_array(np.tile(voice, int(seconds * 16000 / len(voice)) + 1)[: int(seconds * 16000)], 16000)

    start = time.perf_counter()
    animation = magictalk.animate(picture, speech)
    marks: dict[str, float] = {}

    def progress(*_: object) -> None:
        marks.setdefault("first", time.perf_counter() - start)

    animation.save(folder / "speed.mp4", overwrite=True, progress=progress)
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"loading": loading, "total": total, "peak_mb": peak, **marks}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["512x512", "1920x1080", "3840x2160"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[10, 60, 600])
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    add_json_option(parser)
    args = parser.parse_args()
    if args.case:
        run_case(int(args.case[0]), int(args.case[1]), float(args.case[2]), Path(args.case[3]))
        return
    rows = []
    for size in args.sizes:
        peaks = []
        for seconds in args.seconds:
            width, height = size.split("x")
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--case", width, height, str(seconds), folder]
                result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                sys.exit(result.stderr)
            case = json.loads(result.stdout.strip().splitlines()[-1])
            name, peak = f"{size}, {seconds:g} s", case["peak_mb"]
            peaks.append(peak)
            factor = case["total"] / seconds
            target = TARGETS.get(size)
            goal = (f"<= {target}", factor <= target) if target else (None, None)
            rows.append(row(f"{name}: compute per second of video", factor, "s/s", *goal))
            rows.append(row(f"{name}: first frame after", case["first"], "s"))
            rows.append(row(f"{name}: loading, apart", case["loading"], "s"))
            goal = (f"< {MEMORY_TARGET_MB}", peak < MEMORY_TARGET_MB) if target else (None, None)
            rows.append(row(f"{name}: peak memory", peak, "MB", *goal))
        if len(peaks) > 1 and size in TARGETS:
            growth = peaks[-1] - peaks[0]
            label = f"{size}: memory growth from {args.seconds[0]:g} to {args.seconds[-1]:g} s"
            rows.append(row(label, growth, "MB", "< 100 (flat)", growth < 100))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    report(f"Speed on {machine}", rows, args.json)


if __name__ == "__main__":
    main()
