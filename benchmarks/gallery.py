"""Galleries: eight frames of each portrait speaking the same sentence, to be looked at.

    python benchmarks/gallery.py --data ../shared/data

writes ``docs/gallery.png`` from the portraits that may be published, and ``out/gallery_hard.png`` from those that
differ most. The frames are chosen by what the motion does: lips closed and widest, a blink, the head's extremes.
Prints how each portrait fared: the face found, and how far the frames stray from the picture where nothing moves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from clips import data_folder, manifest
from numpy.typing import NDArray
from table import Row, add_json_option, report, row

from magictalk.drive.mix import speak
from magictalk.errors import MagicTalkError
from magictalk.motion import ARKIT, Motion
from magictalk.portrait import Portrait
from magictalk.render.rig import RigRender
from magictalk.speech import Speech

SENTENCE = "Every picture has a voice. Give it one, and it will look you in the eye and tell you about its day."
HARD = (
    "AAAI22-one-shot-talking-face__d5", "AAAI22-one-shot-talking-face__s3", "AniPortrait__lyl", "GFPGAN__Adele_crop",
    "JoyVASA__joyvasa_003", "JoyVASA__joyvasa_004", "LivePortrait__d9", "LivePortrait__d19", "LivePortrait__s0",
    "LivePortrait__s2", "SadTalker__art_8", "SadTalker__art_14", "SadTalker__art_20", "SadTalker__happy1",
    "Sonic__anime1", "V-Express__test_samples_vasa-1_3_ref", "deepface__img20", "deepface__img61", "dreamtalk__zt12",
    "echomimic__d", "echomimic_v3__2025-07-14-8644", "echomimic_v3__25", "hallo__4", "hallo__6",
)  # fmt: skip
TILE = 200


def pick_frames(motion: Motion) -> list[int]:
    """Eight telling frames of a motion: first, closed, half open, widest, a blink, head left, right and tilted."""
    jaw = motion.coefficients[:, ARKIT.index("jawOpen")]
    blink = motion.coefficients[:, ARKIT.index("eyeBlinkLeft")]
    half = np.abs(jaw - (jaw.max() + jaw.min()) / 2)
    head = motion.head
    return [
        0, int(jaw[10:].argmin()) + 10, int(half.argmin()), int(jaw.argmax()), int(blink.argmax()),
        int(head[:, 1].argmin()), int(head[:, 1].argmax()), int(np.abs(head[:, 2]).argmax()),
    ]  # fmt: skip


def strip(portrait: Portrait, motion: Motion) -> tuple[NDArray[np.uint8], float]:
    """One row ``[TILE, 8 * TILE, 3]`` cropped around the head, and the picture's greatest stray at its borders."""
    render = RigRender(portrait)
    scale = render.frame_size[0] / portrait.image.shape[1]
    x, y, w, h = (v * scale for v in portrait.face.box)
    side = int(min(1.9 * max(w, h), *render.picture.shape[:2]))
    left = int(np.clip(x + w / 2 - side / 2, 0, render.picture.shape[1] - side))
    top = int(np.clip(y + 0.42 * h - side / 2, 0, render.picture.shape[0] - side))
    tiles, stray = [], 0.0
    for t in pick_frames(motion):
        frame = render.draw(motion.coefficients[t] + portrait.mood, motion.head[t])
        edges = [np.abs(frame[e].astype(int) - render.picture[e]).mean() for e in (0, -1)]
        stray = max(stray, *map(float, edges))
        crop = frame[top : top + side, left : left + side]
        shrink = cv2.INTER_AREA if side > TILE else cv2.INTER_CUBIC
        tiles.append(cv2.resize(crop, (TILE, TILE), interpolation=shrink))
    return np.hstack(tiles), stray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument(
        "--only", default="", help="only portraits whose file name contains this, to out/gallery_one.png"
    )
    add_json_option(parser)
    args = parser.parse_args()
    portraits = manifest(args.data, "portrait")
    if args.only:
        sheets = {Path("out/gallery_one.png"): [p for p in portraits if args.only in p["file"]]}
    else:
        sheets = {
            Path("docs/gallery.png"): [p for p in portraits if p["publishable"].startswith("yes")],
            Path("out/gallery_hard.png"): [p for p in portraits if Path(p["file"]).stem in HARD],
        }
    motion = Motion.concatenate(list(speak(Speech.say(SENTENCE), seed=3)))
    rows: list[Row] = []
    for path, chosen in sheets.items():
        strips = []
        for p in chosen:
            try:
                made, stray = strip(Portrait.open(args.data / p["file"]), motion)
            except MagicTalkError as error:
                print(f"left out: {error}")
                continue
            strips.append(made)
            rows.append(row(f"{Path(p['file']).stem}: change at the picture's border", stray, "of 255"))
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.vstack(strips)[..., ::-1])
        print(f"wrote {path}: {len(strips)} portraits")
    report("Gallery", rows, args.json)


if __name__ == "__main__":
    main()
