"""Train the nano tier's autoencoder: pictures of 128 pixels to latents of 32, by diffusers' ``AutoencoderKL``.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.autoencoder --data out/dataset --work out/autoencoder -o out/weights/nano-vae

Lips, teeth and eyes are a few pixels of a face, and all that people look at: errors there count more. Colours are
turned and shifted and pictures zoomed, so that thirty people stand for more. It first learns from windows of pictures,
which is four times as fast; as its normalisations see more of a whole picture, the decoder then learns from whole ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk.errors import MagicTalkError
from magictalk.train.loop import Schedule, command_line, train
from magictalk.train.pictures import Clip, gather, shares_of
from magictalk.train.sequences import need

LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""Rims of what counts more, as places in the mesh."""
ZOOM = 0.6, 1.5
"""Sides of what is shown over those of a window: faces of all sizes, of few people, stand for those of many."""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship."""

    side: int = 128
    window: int = 64
    channels: tuple[int, ...] = (32, 64, 128)
    latents: int = 4
    batch: int = 16
    whole_batch: int = 4
    features: float = 4.0
    kl: float = 1e-6
    schedule: Schedule = field(default_factory=lambda: Schedule(3000, 1.5e-3, every=500, mean=0.997))
    decoder: Schedule = field(default_factory=lambda: Schedule(500, 5e-4, 100, every=250, mean=0.99))


class Autoencoding(nn.Module):
    """There and back, for training: pictures ``[B, 3, S, S]`` to their copies, and the latents' KL divergence.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        levels = len(settings.channels)
        self.vae: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=settings.channels,
            latent_channels=settings.latents,
            layers_per_block=1,
            norm_num_groups=8,
            sample_size=settings.side,
            mid_block_add_attention=False,
        )

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(pictures).latent_dist
        return self.vae.decode(posterior.sample()).sample, posterior.kl().mean()

    def freeze_encoder(self) -> None:
        """What latents mean is settled; only how they are read learns from now on."""
        for part in (self.vae.encoder, self.vae.quant_conv):
            part.requires_grad_(False)


class Pictures:
    """Draws batches of pictures, and how much each of their pixels counts.

    Args:
        clips: where from.
        settings: of the run.
        varied: whether colours and sides are changed.
        window: pixels of a side of what is cut out; the whole picture by default.
    """

    def __init__(
        self, clips: Sequence[Clip], settings: Settings, varied: bool = True, window: int | None = None
    ) -> None:
        self._clips, self._settings, self._varied = clips, settings, varied
        self._window = settings.side if window is None else window
        self._shares = shares_of(clips)

    def __call__(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures ``[B, 3, S, S]``, -1..1, and weights ``[B, 1, S, S]``."""
        chosen = [self._one(self._clips[i], rng) for i in rng.choice(len(self._clips), count, p=self._shares)]
        pictures, weights = (torch.from_numpy(np.stack(part)) for part in zip(*chosen, strict=True))
        return pictures.permute(0, 3, 1, 2), weights[:, None]

    def _one(self, clip: Clip, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        frame = int(rng.choice(np.flatnonzero(clip.seen)))
        picture = clip.frames[frame].astype(np.float32) / 127.5 - 1
        weight = importance(clip.points[frame], self._settings.side, self._settings.features)
        if not self._varied:
            return picture, weight
        seen = round(min(self._settings.side, self._window * rng.uniform(*ZOOM)))
        top, left = rng.integers(self._settings.side - seen + 1, size=2)
        here, size = np.s_[top : top + seen, left : left + seen], (self._window, self._window)
        smooth = cv2.INTER_AREA if seen > self._window else cv2.INTER_CUBIC
        picture = recoloured(np.asarray(cv2.resize(picture[here], size, interpolation=smooth), np.float32), rng)
        weight = np.asarray(cv2.resize(weight[here], size, interpolation=cv2.INTER_NEAREST), np.float32)
        turn = np.s_[:, :: rng.choice([-1, 1])]
        return np.ascontiguousarray(picture[turn]), np.ascontiguousarray(weight[turn])


def importance(points: NDArray[np.float32], side: int, features: float) -> NDArray[np.float32]:
    """How much pixels ``[S, S]`` count: 1, the face 2, lips and eyes ``features``; mesh ``points [478, 2]`` px."""
    weight = np.ones((side, side), np.float32)
    hull = cv2.convexHull(points.astype(np.int32))
    cv2.fillConvexPoly(weight, hull, 2.0)
    for rim in (LIPS, RIGHT_EYE, LEFT_EYE):
        area = points[list(rim)]
        around = area.mean(0) + 1.3 * (area - area.mean(0))
        cv2.fillConvexPoly(weight, cv2.convexHull(around.astype(np.int32)), features)
    return weight


def recoloured(
    picture: NDArray[np.float32], rng: np.random.Generator, mixed: float = 0.07, lit: float = 0.2
) -> NDArray[np.float32]:
    """A picture ``[..., 3]``, -1..1, in another light: channels mixed a little, brighter or darker."""
    mix = np.eye(3, dtype=np.float32) + rng.normal(0, mixed, (3, 3)).astype(np.float32)
    mix *= rng.uniform(1 - lit, 1 + lit) / mix.sum(1, keepdims=True)
    return (picture @ mix.T + np.float32(rng.uniform(-lit, lit))).clip(-1, 1)


def loss_of(made: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """Weighed absolute error of pixels and, at three sizes, of their differences: edges count for themselves."""
    total = (weight * (made - real).abs()).mean()
    for _ in range(3):
        for axis in (2, 3):
            edge = weight.narrow(axis, 1, weight.shape[axis] - 1)
            total = total + (edge * (made.diff(dim=axis) - real.diff(dim=axis)).abs()).mean()
        made, real, weight = (nn.functional.avg_pool2d(x, 2) for x in (made, real, weight))
    return total


def run(
    settings: Settings, clips: Sequence[Clip], work: Path, log: Callable[[str], None], until: int | None = None
) -> nn.Module:
    """Train on the clips of split ``train``; ``val`` is looked at as training goes. Returns the autoencoder.

    Args:
        settings: of the run.
        clips: of both splits.
        work: folder for the state of both stages.
        log: told of each look at held-out data.
        until: stop after this step of the first stage, to go on later.

    Raises:
        DatasetError: when either split is empty.
    """
    taught, rest = ([clip for clip in clips if clip.split == split] for split in ("train", "val"))
    need(len(taught), len(rest))
    look = Pictures(rest, settings, varied=False)
    torch.manual_seed(settings.schedule.seed)
    network = Autoencoding(settings)
    looks = [look(16, np.random.default_rng([1, i])) for i in range(4)]

    def held(mean: nn.Module, device: torch.device) -> float:
        with torch.inference_mode():
            return float(np.mean([float(loss_of(mean(x.to(device))[0], x.to(device), w.to(device))) for x, w in looks]))

    def learn(network: Autoencoding, draw: Pictures, count: int, schedule: Schedule, folder: Path) -> Autoencoding:
        def step(wrapped: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
            real, weight = (part.to(device) for part in draw(count, rng))
            made, kl = wrapped(real)
            return loss_of(made.float(), real, weight) + settings.kl * kl

        return cast(Autoencoding, train(network, step, held, schedule, folder, log, until, str(settings)))

    windows = Pictures(taught, settings, window=settings.window)
    network = learn(network, windows, settings.batch, settings.schedule, work / "windows")
    if until is None:
        network.freeze_encoder()
        network = learn(network, Pictures(taught, settings), settings.whole_batch, settings.decoder, work / "whole")
    vae = network.vae
    with torch.inference_mode():
        spread = torch.cat([vae.encode(x).latent_dist.mode() for x, _ in looks]).std()
    vae.register_to_config(scaling_factor=float(1 / spread))
    return cast(nn.Module, vae)


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, Settings().schedule.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    schedule = replace(Settings().schedule, steps=options.steps, seed=options.seed)
    settings = Settings(batch=options.batch, schedule=schedule)
    try:
        clips = gather(options.data, settings.side, "train", "val")
        print(f"{len(clips)} clips, {sum(map(len, clips)) / 25 / 60:.1f} minutes")
        vae = run(settings, clips, options.work, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    cast(Any, vae).half().save_pretrained(options.out)


if __name__ == "__main__":
    main()
