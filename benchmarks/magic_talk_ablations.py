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
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from judge import Judge, add_ablation_options, rows_of
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from table import Row, report

from magictalk import weights
from magictalk.face.recognition import as_identity
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.caption import caption_of
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.fusion import FRAMES, Latents
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.render.diffusion.text import SentenceText
from magictalk.systems.magic_talk import SHARED
from magictalk.train.looks import person_of
from magictalk.train.magic_talk import run, save, settings_for
from magictalk.train.pictures import Clip, gather
from magictalk.train.videos import Videos, encoded, gathered, landmark_pictures, picture_code

VARIANTS = {
    "whole": None,
    "unified attention": "decoupling",
    "without face encoder": "face",
    "without contour": "contour",
    "without motion blocks": "motion",
}
"""Names of the rows, and what ``--without`` is told."""
SIDE = 128


class Trainer:
    """Trains variants, unless their weights are there; all learn from the same videos."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._videos: tuple[Videos, Videos] | None = None

    def __call__(self, variant: str) -> Path:
        """The folder of a variant's weights."""
        options = self._options
        out = Path(options.work / variant.replace(" ", "-") / "weights")
        if not (out / "animate").is_dir():
            settings = settings_for(options.steps, VARIANTS[variant], seed=options.seed)
            vae = weights.load(AutoencoderKL, options.vae)
            self._videos = self._videos or gathered(options.data, vae, options.work / "captions.csv", settings)
            # without motion blocks it is what the whole one was before its last stage
            work = options.work / ("whole" if VARIANTS[variant] == "motion" else variant).replace(" ", "-")
            save(*run(settings, *self._videos, vae, work, lambda line: print(f"{variant}: {line}", flush=True)), out)
        return out


class Generator:
    """A variant, put to use on clips."""

    def __init__(self, vae: Path, folder: Path, code: bool) -> None:
        self.vae = weights.load(AutoencoderKL, vae)
        networks = weights.load(ReferenceNet, folder / "reference"), weights.load(AnimateNet, folder / "animate")
        self.video = VideoDiffusion(self.vae, *networks, animatediff_scheduler())  # type: ignore[arg-type]
        self.text, self.code = SentenceText(), code
        side = SIDE // 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        self.shape = self.vae.config["latent_channels"], side, side

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
        sampling = Sampling(steps=steps, shared=SHARED)
        with tempfile.TemporaryDirectory() as folder:
            store = Latents(Path(folder), self.shape, "ablation")
            self.video.begin(store, wanted, sampling)
            self.video.denoise(store, wanted, sampling)
            return list(self.video.decode(store, FRAMES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_ablation_options(parser, VARIANTS, steps=2500, denoising=15)
    parser.add_argument("--vae", type=Path, required=True)
    options = parser.parse_args()
    clips = gather(options.data, SIDE, options.split)
    judge, rows, trained = Judge(), list[Row](), Trainer(options)
    torch.set_num_threads(options.threads)
    for variant in options.only:
        generator = Generator(options.vae, trained(variant), VARIANTS[variant] == "face")
        bar = track(clips, variant, console=Console(stderr=True))
        judged = [judge(generator(clip, options.denoising), clip) for clip in bar]
        rows += rows_of(variant, judged)
    report("MAGIC-Talk's ablations, embedded tier", rows, options.json)


if __name__ == "__main__":
    main()
