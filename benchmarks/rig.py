"""How well the rig explains real faces: its fit to the tracked meshes of the manifest's test videos.

    python benchmarks/rig.py --data ../shared/data [--split test] [--json FILE]

Residuals are mean distances in the picture plane, in per cent of the inter-ocular distance. Correlations compare
real and refitted motion, so they bound what any drive can reach through the rig. Explained variance is of the motion
left when head pose is taken away.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from clips import data_folder, videos
from numpy.typing import NDArray
from table import add_json_option, report, row

from magictalk.face import rig as parts
from magictalk.face.landmarks import FaceTracker
from magictalk.face.rig import Rig
from magictalk.video import read_frames

REGIONS = {"all": range(478), "lips": parts.LIPS, "lids": parts.LIDS, "brows": parts.BROWS}
MEASURES = {"lip gap": parts.inner_lip_gap, "mouth width": parts.mouth_width, "jaw drop": parts.jaw_drop}


def track(path: Path, tracks: Path | None) -> NDArray[np.float32]:
    """Meshes ``[T, 478, 3]`` in pixels of the frames that show a face; read from ``tracks`` where it has them."""
    cached = tracks / f"{path.name}.npz" if tracks else None
    if cached and cached.is_file():
        with np.load(cached) as file:
            meshes = file["landmarks"]
        return meshes[np.isfinite(meshes[:, 0, 0])]
    tracker = FaceTracker()
    faces = [tracker(frame) for frame in read_frames(path)]
    return np.stack([face.landmarks for face in faces if face is not None])


def score(rig: Rig, landmarks: NDArray) -> dict[str, float]:
    """Figures of one video."""
    fit = rig.fit_video(landmarks)
    real = fit.pose.to_face(landmarks)
    made = rig.for_face(fit.neutral).vertices(fit.coefficients).astype(np.float64)
    error, motion = made - real, real - real.mean(0)
    figures = {}
    for name, points in REGIONS.items():
        off = error[:, list(points), :2]
        figures[f"residual, {name}"] = 100 * float(np.linalg.norm(off, axis=-1).mean())
        left = ((off - off.mean(0)) ** 2).sum() / (motion[:, list(points), :2] ** 2).sum()
        figures[f"explained motion, {name}"] = 100 * float(1 - left)
    for name, measure in MEASURES.items():
        figures[f"correlation, {name}"] = float(np.corrcoef(measure(made), measure(real))[0, 1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--tracks", type=Path, help="folder with tracked meshes, <video name>.npz")
    parser.add_argument("--split", default="test")
    add_json_option(parser)
    args = parser.parse_args()
    rig, chosen = Rig.load(), videos(args.data, args.split)
    clips = [score(rig, track(args.data / clip["file"], args.tracks)) for clip in chosen]
    rows = []
    for name in clips[0]:
        values = [c[name] for c in clips]
        worst = max(values) if name.startswith("residual") else min(values)
        unit = "% of IOD" if name.startswith("residual") else "%" if name.startswith("explained") else ""
        rows.append(row(name, float(np.mean(values)), unit))
        rows.append(row(f"{name}, worst video", worst, unit))
    report(f"The rig on {len(clips)} {args.split} videos", rows, args.json)


if __name__ == "__main__":
    main()
