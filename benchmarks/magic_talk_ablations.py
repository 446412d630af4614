"""The ablations of MAGIC-Talk's tables 2 and 3 at the embedded tier's size: five networks, equally trained.

    python benchmarks/magic_talk_ablations.py --data out/dataset --vae out/vae --work out/magic-talk-ablations
        [--steps 2500] [--split test] [--json FILE]

Each network (whole; text and identity in one attention; a picture code in place of the face recogniser; no contour; no
motion blocks) is trained by ``magictalk.train.magic_talk`` for so many steps in all, unless its weights are there. Then
the first sixteen frames of each clip of the split whose pixels may be shown are generated from noise, given the first
frame (who, contour), its caption and the real landmarks, and judged against the real frames. Means over clips with
bootstrap intervals: at this size an order can be noise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from table import Row, add_json_option, report, row

from magictalk import weights
from magictalk.face.landmarks import FaceDetector
from magictalk.face.recognition import FaceRecogniser
from magictalk.metrics.functional.identity import cosine
from magictalk.metrics.functional.image import psnr, ssim
from magictalk.metrics.functional.landmarks import landmark_distance
from magictalk.metrics.functional.lips import bootstrap
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.caption import caption_of
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted, animatediff_scheduler
from magictalk.render.diffusion.fusion import FRAMES, Latents
from magictalk.render.diffusion.reference import ReferenceNet, as_identity
from magictalk.render.diffusion.text import SentenceText
from magictalk.train.looks import person_of
from magictalk.train.magic_talk import encoded, landmark_pictures, picture_code
from magictalk.train.pictures import Clip, gather

VARIANTS = {
    "whole": None,
    "unified attention": "decoupling",
    "without face encoder": "face",
    "without contour": "contour",
    "without motion blocks": "motion",
}
"""Names of the rows, and what ``--without`` is told."""
SIDE = 128
LARGER = 3
"""Times that pictures are enlarged for the landmark network."""


def trained(options: argparse.Namespace, variant: str) -> Path:
    """The folder of a variant's weights, trained if they are not there."""
    work = options.work / variant.replace(" ", "-")
    out = work / "weights"
    if not (out / "animate").is_dir():
        command = [
            sys.executable, "-m", "magictalk.train.magic_talk", "--data", options.data, "--vae", options.vae,
            "--work", work, "-o", out, "--steps", str(options.steps), "--seed", str(options.seed),
        ]  # fmt: skip
        without = VARIANTS[variant]
        subprocess.run([*map(str, command), *(("--without", without) if without else ())], check=True)
    return out


class Generator:
    """A variant, put to use on clips."""

    def __init__(self, vae: Path, folder: Path, code: bool) -> None:
        self.vae = weights.load(AutoencoderKL, vae)
        networks = weights.load(ReferenceNet, folder / "reference"), weights.load(AnimateNet, folder / "animate")
        self.video = VideoDiffusion(self.vae, *networks, animatediff_scheduler())  # type: ignore[arg-type]
        self.text, self.code = SentenceText(), code

    def __call__(self, clip: Clip, steps: int) -> list[NDArray[np.uint8]]:
        """The clip's first frames, generated."""
        first = clip.frames[:1]
        who = (
            picture_code(encoded(self.vae, first)[0])  # type: ignore[arg-type]
            if self.code
            else as_identity(torch.from_numpy(clip.face))
        )
        person = person_of(Clip(clip.name, clip.kind, clip.split, first, clip.points[:1], clip.seen[:1], clip.contour,
                                clip.face))  # fmt: skip
        words = self.text([str(caption_of(first[0], clip.points[0], person[0], clip.smile)), ""])
        landmarks = torch.from_numpy(landmark_pictures(clip.points[:FRAMES], SIDE)).permute(3, 0, 1, 2) / 127.5 - 1
        contour = torch.from_numpy(np.repeat(clip.contour[None], 3, 0)) / 127.5 - 1
        wanted = Wanted(
            FRAMES, lambda a, b: words[:1].expand(b - a, -1, -1), words[1], who, lambda a, b: landmarks[:, a:b], contour
        )
        sampling = Sampling(steps=steps)
        with tempfile.TemporaryDirectory() as folder:
            store = Latents(Path(folder), (self.vae.config["latent_channels"], SIDE // 8, SIDE // 8), "ablation")
            self.video.begin(store, wanted, sampling)
            self.video.denoise(store, wanted, sampling)
            return list(self.video.decode(store, FRAMES))


class Judge:
    """Figures of generated frames against real ones."""

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500, help="of training, all stages together")
    parser.add_argument("--denoising", type=int, default=15)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    add_json_option(parser)
    options = parser.parse_args()
    clips = gather(options.data, SIDE, options.split)
    judge, rows = Judge(), list[Row]()
    for variant in options.only:
        generator = Generator(options.vae, trained(options, variant), VARIANTS[variant] == "face")
        bar = track(clips, variant, console=Console(stderr=True))
        judged = [judge(generator(clip, options.denoising), clip) for clip in bar]
        for figure in ("PSNR", "SSIM", "F-LMD", "M-LMD", "Face-sim", "faces found"):
            values = [found[figure] for found in judged if figure in found]
            if values:
                found = bootstrap(values)
                name = f"{variant}: {figure} ({len(values)} clips, 95 %: {found.low:.3g} to {found.high:.3g})"
                rows.append(row(name, found.mean, {"PSNR": "dB", "F-LMD": "px", "M-LMD": "px"}.get(figure, "")))
    report("MAGIC-Talk's ablations, embedded tier", rows, options.json)


if __name__ == "__main__":
    main()
