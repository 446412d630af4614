"""Reenactment: each test video's first frame as portrait, driven by the video's own motion, against its real frames.

    python benchmarks/reenact.py --data ../shared/data [--json FILE]

Every clip is cut to a 512x512 head crop, fixed by its first frame. Beside the rig render stand two baselines: a still
picture, and the render driven by another clip's motion. PSNR and SSIM are taken over the whole crop and over the face
(the hull of the real mesh) on every fifth frame; F-LMD and M-LMD, in pixels of the crop, on all. Speeds of brows, lids
and head over the real ones tell how much of a motion the render loses, or the tracker that reads it back.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from clips import data_folder, videos
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from table import add_json_option, report, row

from magictalk.face.landmarks import FaceDetector, FaceTracker
from magictalk.face.rig import Rig, lids_closed
from magictalk.metrics.functional.image import psnr, ssim
from magictalk.metrics.functional.landmarks import landmark_distance
from magictalk.metrics.movement import SpeedRatio, movement_rows
from magictalk.motion import BLINK, Motion
from magictalk.portrait import Portrait
from magictalk.render.rig import RigRender
from magictalk.video import read_frames

SIZE, SECONDS, EVERY = 512, 6.0, 5


def head_crops(path: Path, detector: FaceDetector) -> list[NDArray[np.uint8]]:
    """The clip's frames at 25 fps as ``[512, 512, 3]`` around the head of its first frame."""
    crops: list[NDArray[np.uint8]] = []
    box: tuple[int, int, int] | None = None
    for frame in read_frames(path, duration=SECONDS):
        if box is None:
            faces = detector(frame)
            if not faces:
                return []
            x, y, w, h = max((f.box for f in faces), key=lambda b: b[2] * b[3])
            side = int(min(2.1 * max(w, h), *frame.shape[:2]))
            left = int(np.clip(x + w / 2 - side / 2, 0, frame.shape[1] - side))
            top = int(np.clip(y + 0.45 * h - side / 2, 0, frame.shape[0] - side))
            box = left, top, side
        left, top, side = box
        crop = frame[top : top + side, left : left + side]
        crops.append(cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA if side > SIZE else cv2.INTER_CUBIC))
    return crops


def track_face(frames: Iterator[NDArray[np.uint8]] | list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Meshes ``[T, 478, 3]``; NaN where no face is seen."""
    tracker = FaceTracker()
    found = [tracker(frame) for frame in frames]
    empty = np.full((478, 3), np.nan, np.float32)
    return np.array([empty if face is None else face.landmarks for face in found])


def rebase(motion: Motion, own: NDArray[np.float32]) -> Motion:
    """Motion as change since its first frame, on a portrait whose own coefficients are ``own``."""
    relative = motion.relative()
    return Motion(motion.coefficients - motion.coefficients[:1] + own, relative.head)


def scores(
    frames: list[NDArray[np.uint8]], real: list[NDArray[np.uint8]], truth: NDArray[np.float32],
    points: NDArray[np.float32],
) -> dict[str, float]:  # fmt: skip
    """All figures of one clip and one way of making it, ``points`` being the meshes that are found in ``frames``."""
    seen = np.isfinite(points).all((1, 2)) & np.isfinite(truth).all((1, 2))
    result = {
        "F-LMD": landmark_distance(points[seen], truth[seen]),
        "M-LMD": landmark_distance(points[seen], truth[seen], mouth=True),
        "faces lost": float(1 - seen.mean()),
    }
    whole, face = [], []
    for t in range(EVERY, len(real), EVERY):
        if not np.isfinite(truth[t]).all():
            continue
        mask = np.zeros((SIZE, SIZE), np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(truth[t, :, :2].round().astype(np.int32)), 1)
        region = mask.astype(bool)
        whole.append((psnr(frames[t], real[t]), ssim(frames[t], real[t])))
        face.append((psnr(frames[t], real[t], region), ssim(frames[t], real[t], region)))
    for name, values in (("whole", whole), ("face", face)):
        result[f"PSNR {name}"], result[f"SSIM {name}"] = np.mean(values, 0)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--split", default="test", choices=("test", "val"))
    parser.add_argument("--only", default="", help="only clips whose file name contains this")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet: real above rendered")
    add_json_option(parser)
    args = parser.parse_args()

    detector, rig = FaceDetector(), Rig.load()
    clips: list[tuple[str, list[NDArray[np.uint8]], NDArray[np.float32], Motion]] = []
    for clip in track(
        [c for c in videos(args.data, args.split) if args.only in c["file"]], "tracking", console=Console(stderr=True)
    ):
        crops = head_crops(args.data / clip["file"], detector)
        truth = track_face(crops)
        if len(crops) < 2 or not np.isfinite(truth[0]).all():
            print(f"left out: {clip['file']} (no face in its first frame)")
            continue
        fit = rig.fit_video(truth)
        fit.coefficients[:, BLINK] = lids_closed(fit.coefficients[:, BLINK])
        clips.append((clip["file"], crops, truth, Motion(fit.coefficients, fit.pose.head_since(fit.pose[0]))))

    table: dict[str, list[dict[str, float]]] = {"rig render": [], "still picture": [], "other motion": []}
    sheet, speeds = [], [SpeedRatio(part) for part in ("brow", "lid", "head")]
    for k, (_, real, truth, motion) in enumerate(track(clips, "rendering", console=Console(stderr=True))):
        portrait = Portrait.from_array(real[0])
        render = RigRender(portrait)
        other = clips[(k + 1) % len(clips)][3]
        other = Motion.concatenate([other] * (len(real) // len(other) + 1))[: len(real)]
        made, moved = (list(render([rebase(m, portrait.coefficients)])) for m in (motion, other))
        points = track_face(made)
        for speed in speeds:
            for meshes, is_real in ((points, False), (truth, True)):
                speed.update(movement_rows(rig, meshes)[speed.part.rows], is_real)
        table["rig render"].append(scores(made, real, truth, points))
        table["still picture"].append(scores([real[0]] * len(real), real, truth, np.repeat(truth[:1], len(truth), 0)))
        table["other motion"].append(scores(moved, real, truth, track_face(moved)))
        picks = np.linspace(0, len(real) - 1, 8).astype(int)
        sheet.append(np.vstack([np.hstack([f[t][::2, ::2] for t in picks]) for f in (real, made)]))
    if args.sheet:
        cv2.imwrite(str(args.sheet), np.vstack(sheet)[..., ::-1])

    rows = []
    still = {name: float(np.mean([s[name] for s in table["still picture"]])) for name in table["still picture"][0]}
    for way, results in table.items():
        for name in results[0]:
            value = float(np.mean([r[name] for r in results]))
            target, met = None, None
            if way == "rig render" and "LMD" in name:
                target, met = f"<= {still[name] / 2:.2f} (half of still)", value <= still[name] / 2
            elif way == "rig render" and "face" in name and "lost" not in name:
                target, met = f"> {still[name]:.3f} (still)", value > still[name]
            unit = {"PSNR": "dB", "F-LM": "px", "M-LM": "px"}.get(name[:4], "")
            rows.append(row(f"{way}: {name}", value, unit, target, met))
    rows += [row(f"rig render: {speed.figure} over real", float(speed.compute()), "x") for speed in speeds]
    report(f"Reenactment of {len(clips)} {args.split} videos, 512x512 head crops", rows, args.json)


if __name__ == "__main__":
    main()
