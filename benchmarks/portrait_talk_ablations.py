"""The ablations of PortraitTalk's tables II and IV at the embedded tier's size: equally trained networks.

    python benchmarks/portrait_talk_ablations.py --data out/dataset --work out/portrait-talk-ablations
        [--steps 1500] [--split test] [--json FILE]

Each network (whole; without head placement; without the frame before; without masked fine-tuning; text and identity in
one attention; a picture code in place of the face recogniser) is trained by ``magictalk.train.portrait_talk`` for so
many steps in all, unless its weights are there; "one reference" is the whole one, shown one picture of the person in
place of four. All begin with the package's MAGIC-Talk, which has long known decoupled attention and the recogniser: one
attention begins with the text's keys and values, a picture code with a new projection. Then the first sixteen frames of
each clip of the split whose pixels may be shown are generated from noise, one after another, given the first frame, its
caption and the real landmarks, and judged against the real frames. Means over clips with bootstrap intervals: at this
size an order can be noise.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

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
from magictalk.face.recognition import FaceRecogniser, as_identity
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.caption import caption_of
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.fusion import FRAMES
from magictalk.render.diffusion.layouts import fill, portrait_slots, read
from magictalk.render.diffusion.reference import ReferenceNet, without_motion
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.render.diffusion.sequence import FrameByFrame, Step
from magictalk.render.diffusion.text import SentenceText
from magictalk.render.diffusion.tiers import SHIPPED
from magictalk.systems.portrait_talk import ANCHOR
from magictalk.train.looks import person_of
from magictalk.train.pictures import Clip, gather
from magictalk.train.portrait_talk import Frames, networks_of, run, save, settings_for
from magictalk.train.videos import Videos, encoded, gathered, picture_code

SIDE = 128
REFERENCES = 4


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        without: what training is told.
        unified: whether text and identity share keys and values.
        references: pictures of the person.
        like: the variant whose networks it uses.
    """

    without: str | None = None
    unified: bool = False
    references: int = REFERENCES
    like: str | None = None


VARIANTS = {
    "whole": Variant(),
    "one reference": Variant(references=1, like="whole"),
    "unified attention": Variant(unified=True),
    "without face encoder": Variant("face"),
    "without head placement": Variant("contour"),
    "without temporal attention": Variant("previous"),
    "without mask loss": Variant("mask"),
}


class Trainer:
    """Trains variants, unless their weights are there; all learn from the same videos."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.vae = cast(nn.Module, weights.load(AutoencoderKL, SHIPPED[0]))
        self._videos: tuple[Videos, Videos] | None = None

    def base(self, variant: Variant) -> tuple[ReferenceNet, AnimateNet]:
        """The networks that a variant begins with."""
        whole = weights.load(ReferenceNet, SHIPPED[1])
        torch.manual_seed(self._options.seed)
        own = cast(ReferenceNet, ReferenceNet.from_config(whole.config, unified=variant.unified))
        given, new = whole.state_dict(), variant.without == "face"
        known = own.state_dict()
        own.load_state_dict(known | {n: given[n] for n in known if not (new and n.startswith("identity."))})
        return own.eval(), weights.load(AnimateNet, SHIPPED[2])

    def __call__(self, name: str) -> tuple[ReferenceNet, AnimateNet]:
        """A variant's networks."""
        options, variant = self._options, VARIANTS[name]
        if variant.like:
            return self(variant.like)
        work = Path(options.work / name.replace(" ", "-"))
        if not (work / "weights" / "identity").is_dir():
            settings = settings_for(options.steps, variant.without, seed=options.seed)
            self._videos = self._videos or gathered(
                options.data, self.vae, options.work / "captions.csv", settings, print
            )
            videos = self._videos
            if variant.without == "face":
                videos = videos[0].by_picture(), videos[1].by_picture()
            frames = Frames(videos[0]), Frames(videos[1])
            networks = networks_of(settings, *self.base(variant))
            save(*run(settings, networks, *frames, self.vae, work, lambda line: print(f"{name}: {line}", flush=True)),
                 work / "weights")  # fmt: skip
        still: Any = without_motion(self.base(variant)[0])
        path = work / "weights" / "identity" / weights.WEIGHTS
        fill(still, portrait_slots(still), read(path), str(path))
        return still.eval(), weights.load(AnimateNet, work / "weights" / "animate")


class Generator:
    """A variant, put to use on clips."""

    def __init__(self, vae: nn.Module, networks: tuple[ReferenceNet, AnimateNet], variant: Variant) -> None:
        self._vae, self._variant = vae, variant
        self._video = VideoDiffusion(vae, networks[0], cast(nn.Module, networks[1]), animatediff_scheduler())
        self._text, self._recogniser = SentenceText(), FaceRecogniser()

    def _who(self, clip: Clip) -> Tensor:
        """Embeddings ``[R, 128]`` of pictures from all over the clip."""
        places = np.linspace(0, len(clip) - 1, self._variant.references).round().astype(int)
        if self._variant.without == "face":
            return torch.stack([picture_code(z) for z in encoded(self._vae, clip.frames[places])])
        seen = [self._recogniser(clip.frames[t], deep(clip.points[t])) for t in places]
        return torch.stack([as_identity(torch.from_numpy(each)) for each in seen])

    def __call__(self, clip: Clip, steps: int) -> list[NDArray[np.uint8]]:
        """The clip's first frames, generated."""
        first = Clip(clip.name, clip.kind, clip.split, clip.frames[:1], clip.points[:1], clip.seen[:1], clip.contour,
                     clip.face)  # fmt: skip
        said = caption_of(clip.frames[0], clip.points[0], person_of(first)[0], clip.smile)
        words, face = self._text([str(said), ""]), self._who(clip)
        nothing = torch.zeros(3, SIDE, SIDE)
        wanted = Wanted(
            FRAMES, lambda a, b: words[:1].expand(b - a, -1, -1), words[1], face, lambda a, b: nothing[:, None], nothing
        )
        draw = FrameByFrame(self._video, wanted, Sampling(steps=steps), clip.frames[0], deep(clip.points[0]), ANCHOR)
        return list(draw(Step(deep(mesh), face) for mesh in clip.points[:FRAMES]))


def deep(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points ``[478, 2]`` with a third coordinate, of which only the head's size would depend a little."""
    return np.concatenate([points, np.zeros((len(points), 1), np.float32)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_ablation_options(parser, VARIANTS, steps=1500, denoising=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips = gather(options.data, SIDE, options.split)
    judge, rows, trained = Judge(), list[Row](), Trainer(options)
    for name in options.only:
        generator = Generator(trained.vae, trained(name), VARIANTS[name])
        bar = track(clips, name, console=Console(stderr=True))
        rows += rows_of(name, [judge(generator(clip, options.denoising), clip) for clip in bar])
    report("PortraitTalk's ablations, embedded tier", rows, options.json)


if __name__ == "__main__":
    main()
