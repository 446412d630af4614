"""What generated frames are like, beside the real ones: shared by the ablations of the diffusion systems."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from table import Row, add_json_option, row

from magictalk.face.landmarks import FaceDetector
from magictalk.face.recognition import FaceRecogniser
from magictalk.metrics.functional.dynamics import adfd
from magictalk.metrics.functional.identity import cosine
from magictalk.metrics.functional.image import psnr, ssim
from magictalk.metrics.functional.landmarks import IBUG_68, landmark_distance
from magictalk.metrics.functional.lips import bootstrap
from magictalk.train.pictures import Clip

LARGER = 3
"""Times that pictures are enlarged for the landmark network."""
UNITS = {"PSNR": "dB", "F-LMD": "px", "M-LMD": "px"}


class Judge:
    """Figures of generated frames against those of a real clip."""

    def __init__(self) -> None:
        self._detector, self._recogniser = FaceDetector(), FaceRecogniser()

    def __call__(self, made: Sequence[NDArray[np.uint8]], clip: Clip) -> dict[str, float]:
        real = clip.frames[: len(made)]
        figures = {
            "PSNR": float(np.mean([psnr(a, b) for a, b in zip(made, real, strict=True)])),
            "SSIM": float(np.mean([ssim(a, b) for a, b in zip(made, real, strict=True)])),
        }
        meshes = [self._mesh(frame) for frame in made]
        known = [t for t, mesh in enumerate(meshes) if mesh is not None]
        figures["faces found"] = len(known) / len(made)
        if known:
            found = np.stack([meshes[t][:, :2] for t in known])  # type: ignore[index]
            truth = clip.points[known]
            figures["F-LMD"] = landmark_distance(found, truth)
            figures["M-LMD"] = landmark_distance(found, truth, mouth=True)
            if len(known) == len(made):
                figures["ADFD"] = adfd(
                    found[:, list(IBUG_68)], truth[:, list(IBUG_68)], float(np.hypot(*made[0].shape[:2]))
                )
            t = known[len(known) // 2]
            own = self._recogniser(_large(made[t]), meshes[t] * np.float32(LARGER))  # type: ignore[operator]
            real_own = self._recogniser(_large(real[t]), _deep(clip.points[t]) * np.float32(LARGER))
            figures["Face-sim"] = float(cosine(own[None], real_own)[0])
        return figures

    def _mesh(self, frame: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        faces = self._detector(_large(frame))
        return max(faces, key=lambda f: f.box[2]).landmarks / np.float32(LARGER) if faces else None


def _large(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(frame, None, fx=LARGER, fy=LARGER, interpolation=cv2.INTER_CUBIC), np.uint8)


def _deep(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points ``[478, 2]`` with a third coordinate, which the recogniser does not look at."""
    return np.concatenate([points, np.zeros((len(points), 1), np.float32)], 1)


def rows_of(variant: str, judged: Sequence[Mapping[str, float]]) -> list[Row]:
    """Means over clips with their bootstrap intervals."""
    rows = []
    for figure in ("PSNR", "SSIM", "F-LMD", "M-LMD", "ADFD", "Face-sim", "faces found"):
        values = [found[figure] for found in judged if figure in found]
        if values:
            mean = bootstrap(values)
            name, unit = f"{variant}: {figure}", UNITS.get(figure, "")
            rows += [row(name, mean.mean, unit), row(f"{name}, low", mean.low, unit),
                     row(f"{name}, high", mean.high, unit)]  # fmt: skip
    return rows


def add_ablation_options(parser: argparse.ArgumentParser, variants: Iterable[str], steps: int, denoising: int) -> None:
    """What every table of ablations is told: data, work folder, how long to train and to denoise, whom to show.

    Args:
        parser: of the script.
        variants: names of the rows.
        steps: of training, by default.
        denoising: steps of it, by default.
    """
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=steps, help="of training, all stages together")
    parser.add_argument("--denoising", type=int, default=denoising)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(variants), default=list(variants))
    add_json_option(parser)
