"""The ablations of MCDM's tables 4 and 5 and of its figure 7 at the embedded tier's size: equally trained networks.

    python benchmarks/mcdm_ablations.py --data out/dataset --tokens out/motion-prior/weights/tokens
        --work out/mcdm-ablations [--steps 2000] [--split test] [--json FILE]

Each network (whole; without the archived clip; sound in place of the present clip's motion tokens; others' temporal
attention in place of the memory-efficient one; a Q-Former in place of frame-aligned attention; a UNet that reads the
portrait in place of the autoencoder's latents) is trained by ``magictalk.train.mcdm`` for so many steps in all, unless
its weights are there; those that differ only in what the second stage trains share the first. Then the first 48
frames, three clips, of each clip of the split whose pixels may be shown are generated from noise with the system's
anchor, given the first frame and the real motion (or the sound), and judged against the real frames. The whole network
is judged for each alpha of figure 7 too, and without the anchor. Means over clips with bootstrap intervals: at this
size an order can be noise.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from judge import Judge, add_ablation_options, rows_of
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from table import Row, report
from torch import Tensor, nn

from magictalk import weights
from magictalk.drive.motion_prior import MotionTokens
from magictalk.render.diffusion.clip_by_clip import FRAMES, ClipByClip
from magictalk.render.diffusion.clips import ClipNet
from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.memory import ALPHA
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.render.diffusion.tiers import SHIPPED
from magictalk.systems.mcdm import ANCHOR
from magictalk.train.mcdm import Clips, Settings, network_of, run, settings_for, since, windows_of
from magictalk.train.pictures import Clip, gather
from magictalk.train.videos import Videos, gathered

VARIANTS = {
    "whole": None,
    "without archived clip": "archived",
    "without present clip": "present",
    "without memory attention": "memory",
    "Q-Former (B1)": "alignment",
    "Reference UNet (B2)": "vae",
}
"""Names of the rows, and what ``--without`` is told."""
ALIKE_AT_FIRST = None, "present", "memory"
"""Variants that the first stage of training does not concern: they share the whole network's."""
ALPHAS = 0.3, 0.5, 0.7, 0.9
"""Those of figure 7 besides the default, 0.1."""
SIDE, CLIPS = 128, 3


class Trainer:
    """Trains variants, unless their weights are there; all learn from the same videos."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.vae = cast(nn.Module, weights.load(AutoencoderKL, SHIPPED[0]))
        self.tokens = weights.load(MotionTokens, options.tokens)
        self._videos: tuple[Videos, Videos] | None = None

    def __call__(self, variant: str) -> ClipNet:
        """A variant's network."""
        options, without = self._options, VARIANTS[variant]
        work = Path(options.work / (without or "whole"))
        if not (work / "weights").is_dir():
            settings = settings_for(options.steps, without, seed=options.seed)
            network = self._fresh(settings)
            if without in ALIKE_AT_FIRST:
                whole = settings_for(options.steps, seed=options.seed)
                first = self._trained(replace(whole, stages=whole.stages[:1]), self._fresh(whole), "whole")
                network.load_state_dict(network.state_dict() | learnt(first, whole.stages[0].learns))
                settings = replace(settings, stages=settings.stages[1:])
            made = self._trained(settings, network, variant)
            made.half().save_pretrained(work / "weights")  # type: ignore[attr-defined]
        return weights.load(ClipNet, work / "weights")

    def _fresh(self, settings: Settings) -> ClipNet:
        return network_of(settings, weights.load(ReferenceNet, SHIPPED[1]))

    def _trained(self, settings: Settings, network: ClipNet, variant: str) -> ClipNet:
        """By the stages that the settings name; those that are done already are read."""
        options, without = self._options, settings.without
        self._videos = self._videos or gathered(options.data, self.vae, options.work / "captions.csv", settings, print)
        taught, rest = (Clips(of, self.tokens, without) for of in self._videos)
        return run(settings, network, taught, rest, self.vae, options.work / (without or "whole"),
                   lambda line: print(f"{variant}: {line}", flush=True))  # fmt: skip


def learnt(network: ClipNet, names: str) -> dict[str, Tensor]:
    """The weights whose names a stage's expression matches."""
    return {name: value for name, value in network.state_dict().items() if re.match(names, name)}


class Generator:
    """A variant, put to use on clips."""

    def __init__(self, trained: Trainer, network: ClipNet, without: str | None) -> None:
        self._tokens, self._without = trained.tokens.eval(), without
        self._video = ClipByClip(
            trained.vae, network, animatediff_scheduler(), history=without not in ("archived", "vae")
        )

    def _lead(self, clip: Clip) -> Tensor:
        """What leads each frame: its motion from the first frame on, or what is heard."""
        assert clip.motion is not None and clip.heard is not None
        if self._without == "present":
            return windows_of(torch.from_numpy(clip.heard))
        with torch.inference_mode():
            return self._tokens.encode(torch.from_numpy(since(clip.motion, clip.motion[0])))

    def __call__(self, clip: Clip, steps: int, alpha: float, anchor: float) -> list[NDArray[np.uint8]]:
        """The clip's first frames, generated."""
        reference = next(self._video.encode(clip.frames[:1]))[0]
        carried, lead = self._video.begin(reference), self._lead(clip)[: CLIPS * FRAMES]
        sampling, made = Sampling(steps=steps, guidance=1.0, shared=1.0), list[NDArray[np.uint8]]()
        for first in range(0, len(lead), FRAMES):
            led = lead[first : first + FRAMES]
            latents, carried = self._video.clip(carried, reference, led, sampling, alpha, anchor=anchor)
            made += self._video.pictures(latents)
        return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_ablation_options(parser, VARIANTS, steps=2000, denoising=10)
    parser.add_argument("--tokens", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips = gather(options.data, SIDE, options.split)
    judge, rows, trained = Judge(), list[Row](), Trainer(options)
    networks = {variant: trained(variant) for variant in options.only}  # all first: what is trained is kept
    for variant, network in networks.items():
        generator = Generator(trained, network, VARIANTS[variant])
        ways = {variant: (ALPHA, ANCHOR)}
        if variant == "whole":
            ways |= {f"whole, alpha {alpha:g}": (alpha, ANCHOR) for alpha in ALPHAS}
            ways["whole, no anchor"] = ALPHA, 0.0
        for name, how in ways.items():
            bar = track(clips, name, console=Console(stderr=True))
            rows += rows_of(name, [judge(generator(clip, options.denoising, *how), clip) for clip in bar])
    report("MCDM's ablations, embedded tier", rows, options.json)


if __name__ == "__main__":
    main()
