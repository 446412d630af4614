"""MCDM's embedded tier, to be looked at and measured: portraits, beginnings, with the archived clip and without.

    python benchmarks/mcdm.py --data ../shared/data [--portraits 5] [--steps 12] [--json FILE]

writes ``docs/mcdm.png``: for each publishable portrait the picture, its rig render, and what is generated from the
rig's frames, from noise, from noise without an anchor (so as in the paper), and without the archived clip, where the
archive holds the portrait throughout. Each is four clips of sixteen frames of a sentence that the motion prior speaks;
the sheet shows the last clip's widest mouth, three clips after the portrait.

Figures are means over portraits: the lips against the motion asked for (correlation of the gap, landmarks found anew),
the likeness to the portrait (cosine of dlib's embeddings), the pixels' change from frame to frame.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from clips import data_folder
from magic_talk import Judge, agreement, portraits_of, rows_of, sheet, spoken
from portrait_talk import change
from rich.console import Console
from rich.progress import track
from table import add_json_option, report

from magictalk.animation import clip_networks
from magictalk.motion import ARKIT
from magictalk.render.diffusion.clip_by_clip import FRAMES
from magictalk.render.diffusion.clip_render import ClipRender
from magictalk.systems.mcdm import drawing_of

CLIPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--portraits", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--drive", default="mcdm")
    parser.add_argument("--picture", type=Path, default=Path("docs/mcdm.png"))
    parser.add_argument("--weights", type=Path, help="a folder with tokens and clips, not the package's")
    add_json_option(parser)
    options = parser.parse_args()
    own = [options.weights / part for part in ("clips", "tokens")] if options.weights else []
    plain, forgetful = (clip_networks(*own, history=history) for history in (True, False))
    noise = drawing_of(init="noise", steps=options.steps)
    cases = {
        "rig": (drawing_of(steps=2 * options.steps), plain),
        "noise": (noise, plain),
        "noise, no anchor": (replace(noise, anchor=0.0), plain),
        "noise, no archived clip": (noise, forgetful),
    }
    judge, motion = Judge(), spoken(CLIPS * FRAMES, options.drive)
    jaw = motion.coefficients[:, ARKIT.index("jawOpen")]
    widest = len(motion) - FRAMES + int(jaw[-FRAMES:].argmax())
    found: dict[str, list[float]] = {}
    people = []
    for portrait in track(portraits_of(options.data, options.portraits), console=Console(stderr=True)):
        render = ClipRender(portrait, noise, plain)
        asked = [render.rig.draw(c, h) for c, h in zip(motion.coefficients, motion.head, strict=True)]
        tiles, gaps = [render.portrait.image, asked[widest]], judge.gaps(asked)
        for name, (drawing, networks) in cases.items():
            frames = list(ClipRender(portrait, drawing, networks)([motion]))
            found.setdefault(f"{name}: lip gap", []).append(agreement(judge.gaps(frames), gaps))
            likeness = np.nanmean([judge.likeness(frames[t], portrait) for t in range(widest - 4, widest + 4, 2)])
            found.setdefault(f"{name}: likeness", []).append(float(likeness))
            found.setdefault(f"{name}: change", []).append(change(frames))
            tiles.append(frames[widest])
        people.append(tiles)
    sheet(options.picture, people)
    report("MCDM, embedded tier", rows_of(found), options.json)


if __name__ == "__main__":
    main()
