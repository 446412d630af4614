"""Train the nano tier of MCDM's network (section 3.5): what the archived clip says, then motion and memory, then all.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.motion_prior --data out/dataset --work out/motion-prior -o out/motion-prior/weights
    python -m magictalk.train.mcdm --data out/dataset --tokens out/motion-prior/weights/tokens --work out/mcdm
        -o out/mcdm/weights

The paper's second stage, the motion prior, is a network of its own, whose motion tokens are looked at here. The UNet
begins with MAGIC-Talk's ReferenceNet of the package (or ``--base FOLDER``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.fronts import LogMelFront
from magictalk.drive.motion_prior import MotionTokens
from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion.clip_by_clip import FRAMES
from magictalk.render.diffusion.clips import MEMORY_PARTS, PRESENT_PARTS, TOKEN_SPREAD, ClipNet
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import alphas
from magictalk.render.diffusion.tiers import SHIPPED
from magictalk.train.loop import Schedule, command_line, moved, train
from magictalk.train.magic_talk import NANO, noise_for, sheet_of
from magictalk.train.videos import Looking, Shown, Videos, gathered

ABLATIONS = "archived", "present", "memory", "alignment", "vae"
"""What a run can be without: frames before in the archive; motion tokens, in whose place sound is heard; what is
remembered, with others' temporal attention in its place (table 4); frame-aligned attention, with a Q-Former in its
place; the autoencoder's view of the portrait, with a UNet's in its place and no archive (table 5, B1 and B2)."""
AHEAD = 5
"""Frames of sound beyond its own that a frame hears where no motion tokens lead it."""
NANO_CLIPS: dict[str, Any] = {**NANO, "velocity": True, "patch": 2, "readers": 16}
"""Settings of the nano network; a frame's latents are the paper's m = 256 tokens."""
AT_FIRST = 0.3
"""How often the archive holds the portrait, as before the first clip."""
ANCHORED = 0.5
"""How often the portrait is mixed into the archive, by any share, as an anchor is when videos are drawn."""
UNLED = 0.1
"""How often nothing is said of the motion, so that guidance can lead away from that."""
REMEMBERED = 0.5
"""How often a clip goes on from what is remembered of the one before it."""
MOVES = 5.0
"""How much more the error counts in what differs between a clip's frames than in what they share: only the motion tells
that, and in a small picture it is little beside what the archive shows already."""
ARCHIVE_NOISE = 0.2
"""The most noise on archived frames, in spreads of latents: a network's own frames are not as clean as real ones."""


@dataclass(frozen=True)
class Stage:
    """What a stage of training changes; everything else is frozen.

    Attributes:
        name: of its folder.
        learns: names of the weights that are trained, as a regular expression.
        schedule: how long and how fast.
        frames: of each video that is learnt from.
        videos: at once.
    """

    name: str
    learns: str
    schedule: Schedule
    frames: int
    videos: int


STAGES = (
    Stage("archived", rf"(?!{PRESENT_PARTS}|{MEMORY_PARTS})", Schedule(1500, 5e-4, every=500), 1, 16),
    Stage("together", rf"{PRESENT_PARTS}|{MEMORY_PARTS}", Schedule(500, 1e-3, 100, every=250), FRAMES, 1),
    Stage("whole", "", Schedule(3000, 5e-4, 100, every=250), FRAMES // 4, 4),
)
"""The paper's first and third stage: all but the present-clip reference attention and the temporal attention, then
those alone. A frame of the first stage needs no clip, since frames do not know of one another yet. Then, unlike in the
paper, everything: a small network that learnt pictures without being told where heads are turned draws none of them
well until it is.

The paper's rates are for 30,000 steps a stage on clips in fours: 1e-5, with AdamW.
"""


@dataclass(frozen=True)
class Settings(Looking):
    """What a run can change; the defaults trained the weights that ship.

    Attributes:
        stages: what is trained, in order.
        network: settings of the network.
        without: one of ``ABLATIONS``.
    """

    stages: tuple[Stage, ...] = STAGES
    network: dict[str, Any] = field(default_factory=lambda: dict(NANO_CLIPS))
    without: str | None = None


class Batch(NamedTuple):
    """Clips to learn from.

    Attributes:
        latents: ``[B, C, N, h, w]``.
        reference: the portrait's ``[B, C, h, w]``.
        archive: frames before ``[B, N, C, h, w]``; frame i of the clip looks at the i-th.
        motion: tokens ``[B, N, 3, W]``; of sound ``[B, N, 1 + AHEAD, 320]`` in their place.
        weight: how much each latent counts ``[B, 1, N, h, w]``, 1 in the mean.
    """

    latents: Tensor
    reference: Tensor
    archive: Tensor
    motion: Tensor
    weight: Tensor


class Clips:
    """Draws clips and those before them.

    Args:
        videos: where from; with motion.
        tokens: of motion, trained.
        without: as in :class:`Settings`.
    """

    def __init__(self, videos: Videos, tokens: MotionTokens, without: str | None = None) -> None:
        self.videos, self._tokens, self._without = videos, tokens.eval(), without
        self._history = without not in ("archived", "vae")

    def draw(self, count: int, frames: int, rng: np.random.Generator, varied: bool = True) -> tuple[Batch, Batch]:
        """So many clips, and the clips before them, which begin ``FRAMES`` earlier; not varied: as they are."""
        videos = self.videos
        rows = [
            self._pair(videos.shown[i][int(rng.integers(len(videos.shown[i]))) if varied else 0], frames, rng, varied)
            for i in rng.choice(len(videos.clips), count, p=videos.shares)
        ]
        now, before = ([row[k] for row in rows] for k in (0, 1))
        return tuple(Batch(*(torch.stack(p) for p in zip(*part, strict=True))) for part in (now, before))  # type: ignore[return-value]

    def _pair(self, shown: Shown, frames: int, rng: np.random.Generator, varied: bool) -> tuple[Batch, Batch]:
        reference = int(rng.choice(shown.seen))
        start = int(rng.integers(max(1, len(shown) - frames + 1)))
        led = not varied or rng.random() >= UNLED
        return tuple(self._one(shown, at, frames, reference, led, rng, varied) for at in (start, start - FRAMES))  # type: ignore[return-value]

    def _one(
        self, shown: Shown, start: int, frames: int, reference: int, led: bool, rng: np.random.Generator, varied: bool
    ) -> Batch:
        """A clip; where there is no frame of a number, the nearest one is."""
        last = len(shown) - 1
        here = np.arange(start, start + frames)
        at, before = here.clip(0, last), here - FRAMES
        portrait = shown.latents[reference].float()
        archive = shown.latents[before.clip(0, last)].float()
        first = not self._history or (varied and rng.random() < AT_FIRST)
        archive[torch.from_numpy(before < 0) | first] = portrait
        if varied:
            share = float(rng.random()) if rng.random() < ANCHORED else 0.0
            archive = torch.lerp(archive, portrait.expand_as(archive), share)
            strength = ARCHIVE_NOISE * float(rng.random())
            archive = archive + strength * torch.from_numpy(rng.standard_normal(tuple(archive.shape), np.float32))
        motion = self._heard(shown, at) if self._without == "present" else self._said(shown, at, reference)
        return Batch(
            shown.latents[at].float().transpose(0, 1),
            portrait,
            archive,
            motion if led else torch.zeros_like(motion),
            shown.weight[at][None],
        )

    @torch.inference_mode()
    def _said(self, shown: Shown, at: NDArray[np.int64], reference: int) -> Tensor:
        assert shown.clip.motion is not None
        return self._tokens.encode(torch.from_numpy(since(shown.clip.motion[at], shown.clip.motion[reference]))).clone()

    @staticmethod
    def _heard(shown: Shown, at: NDArray[np.int64]) -> Tensor:
        assert shown.clip.heard is not None
        return windows_of(torch.from_numpy(shown.clip.heard))[torch.from_numpy(at)]


def windows_of(rows: Tensor) -> Tensor:
    """Each frame's row of ``[T, features]`` and those ahead of it, ``[T, 1 + AHEAD, features]``; the last one holds.

    Sound has a spread of about one; here it has that of the motion tokens in whose place it stands.
    """
    held = TOKEN_SPREAD * torch.cat([rows, rows[-1:].expand(AHEAD, -1)])
    return held.unfold(0, 1 + AHEAD, 1).mT


def since(motion: NDArray[np.float32], portrait: NDArray[np.float32]) -> NDArray[np.float32]:
    """Motion ``[n, 58]`` whose head is told from where it is in the portrait's frame ``[58]``, as renders are told."""
    turned = (Rotation.from_rotvec(motion[:, -6:-3]) * Rotation.from_rotvec(portrait[-6:-3]).inv()).as_rotvec()
    moved = motion[:, -3:] - portrait[-3:]
    return np.concatenate([motion[:, :-6], turned, moved], 1).astype(np.float32)


class Remembering(nn.Module):
    """The network, as it is trained.

    Args:
        network: see there.
    """

    def __init__(self, network: ClipNet) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, batch: Batch, before: Batch | None, epsilon: Tensor, t: Tensor) -> Tensor:
        """The squared error of the velocity in clips ``[B, C, N, h, w]`` under ``epsilon`` at steps ``t [B]``.

        Args:
            batch: the clips.
            before: those before them, of which the network remembers what it can; None begins with nothing.
            epsilon: the noise.
            t: steps of the diffusion.
        """
        a = alphas().to(epsilon.device)[t].view(-1, 1, 1, 1, 1)
        memory = None
        if before is not None:
            with torch.no_grad():
                _, memory = self._found(before, epsilon, t, a, None)
        found, _ = self._found(batch, epsilon, t, a, memory)
        error = (found.float() - epsilon) / a.sqrt()
        moves = error - error.mean(2, keepdim=True)
        return (batch.weight * (error**2 + MOVES * moves**2)).mean()

    def _found(self, batch: Batch, epsilon: Tensor, t: Tensor, a: Tensor, memory: Any) -> tuple[Tensor, Any]:
        noisy = a.sqrt() * batch.latents + (1 - a).sqrt() * epsilon
        return cast(tuple[Tensor, Any], self.network(noisy, t, batch.reference, batch.archive, batch.motion, memory))


def network_of(settings: Settings, reference: ReferenceNet) -> ClipNet:
    """The network, begun with what MAGIC-Talk's UNet knows of pictures."""
    torch.manual_seed(settings.seed)
    differing: dict[str, Any] = {"memory": settings.without != "memory"}
    if settings.without == "present":
        differing |= {"token": LogMelFront().width, "kinds": 1 + AHEAD}
    if settings.without in ("alignment", "vae"):
        differing["archived"] = "q-former" if settings.without == "alignment" else "unet"
    network = cast(ClipNet, ClipNet(**settings.network | differing))
    network.take(reference.state_dict())
    return network


def freeze(network: Remembering, stage: Stage) -> None:
    """Let a stage's weights learn, and no others."""
    for name, parameter in network.network.named_parameters():
        parameter.requires_grad_(re.match(stage.learns, name) is not None)


def run(
    settings: Settings, network: ClipNet, taught: Clips, rest: Clips, vae: nn.Module, work: Path,
    log: Callable[[str], None],
) -> ClipNet:  # fmt: skip
    """Train all stages; ``rest`` is looked at as training goes."""
    steps = len(alphas())
    for stage in settings.stages:
        log(f"stage {stage.name}")
        learner = Remembering(network)
        freeze(learner, stage)
        looks = [rest.draw(stage.videos, stage.frames, np.random.default_rng([1, i]), varied=False) for i in range(8)]

        def loss_on(
            wrapped: nn.Module, pair: tuple[Batch, Batch], rng: np.random.Generator, device: torch.device, both: bool
        ) -> Tensor:
            batch, before = (moved(part, device) for part in pair)
            t = torch.from_numpy(rng.integers(0, steps, len(batch.latents))).to(device)
            epsilon = noise_for(batch.latents.cpu(), rng).to(device)
            return cast(Tensor, wrapped(batch, before if both else None, epsilon, t))

        def step(wrapped: nn.Module, rng: np.random.Generator, device: torch.device, stage: Stage = stage) -> Tensor:
            pair = taught.draw(stage.videos, stage.frames, rng)
            return loss_on(wrapped, pair, rng, device, stage.frames > 1 and rng.random() < REMEMBERED)

        def held(
            mean: nn.Module, device: torch.device, looks: list[tuple[Batch, Batch]] = looks,
            folder: Path = work / stage.name, stage: Stage = stage,
        ) -> float:  # fmt: skip
            sheet(cast(Remembering, mean), vae, moved(looks[0][0], device), folder / "sheet.png", device)
            with torch.inference_mode():
                found = [
                    loss_on(mean, pair, np.random.default_rng([2, i]), device, stage.frames > 1)
                    for i, pair in enumerate(looks)
                ]
            return float(torch.stack(found).mean())

        told = f"{replace(settings, stages=(stage,))}"
        learner = cast(Remembering, train(learner, step, held, stage.schedule, work / stage.name, log, settings=told))
        network = learner.network
    return network


def sheet(network: Remembering, vae: nn.Module, batch: Batch, path: Path, device: torch.device) -> None:
    """Pictures out of noise below the real ones and their portraits, at the running mean's weights."""
    parts = Batch(*(part[:8] for part in batch))

    def noise_of(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        found, _ = network.network(
            torch.cat([x, x]), t, torch.cat([parts.reference] * 2), torch.cat([parts.archive] * 2),
            torch.cat([torch.zeros_like(parts.motion), parts.motion]),
        )  # fmt: skip
        plain, asked = found.chunk(2)
        return plain, asked

    coder = cast(Any, vae)
    with torch.inference_mode():
        portraits = coder.decode(parts.reference.cpu() / coder.config.scaling_factor).sample
    sheet_of(noise_of, vae, parts.latents, [portraits], path, device)


def settings_for(steps: int, without: str | None = None, looks: int = Looking.looks, seed: int = 0) -> Settings:
    """A run of so many steps, all stages together, whole or without one of ``ABLATIONS``.

    Raises:
        OptionError: when steps or looks are none.
    """
    share = steps / sum(stage.schedule.steps for stage in STAGES)
    if share <= 0:
        raise OptionError(f"steps are {steps}; expected 1 or more")
    stages = tuple(replace(s, schedule=s.schedule.shorter(share, seed)) for s in STAGES)
    return Settings(looks=looks, seed=seed, stages=stages, without=without)


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, sum(stage.schedule.steps for stage in STAGES))
    parser.add_argument("--tokens", type=Path, required=True, help="folder of the motion tokens' encoders")
    parser.add_argument("--base", type=Path, help="a folder with vae and reference, not the package's")
    parser.add_argument("--looks", type=int, default=Looking.looks)
    parser.add_argument("--without", choices=ABLATIONS, help="an ablation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    def log(line: str) -> None:
        print(line, flush=True)

    try:
        settings = settings_for(options.steps, options.without, options.looks, options.seed)
        names = [options.base / name for name in ("vae", "reference")] if options.base else SHIPPED[:2]
        vae = cast(nn.Module, weights.load(AutoencoderKL, names[0]))
        network = network_of(settings, weights.load(ReferenceNet, names[1]))
        tokens = weights.load(MotionTokens, options.tokens)
        videos = gathered(options.data, vae, options.work / "captions.csv", settings, log)
        taught, rest = (Clips(of, tokens, options.without) for of in videos)
        log(f"{len(videos[0].clips)} clips, {sum(map(len, videos[0].clips)) / 25 / 60:.1f} minutes")
        network = run(settings, network, taught, rest, vae, options.work, log)
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    cast(Any, network).half().save_pretrained(options.out)


if __name__ == "__main__":
    main()
