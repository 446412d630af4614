"""Train the nano tier of MAGIC-Talk: ReferenceNet, AnimateNet, motion blocks, one after the other.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.autoencoder --data out/dataset --work out/autoencoder -o out/vae
    python -m magictalk.train.magic_talk --data out/dataset --vae out/vae --work out/magic-talk -o out/magic-talk

Each stage goes on from the last one's running mean. Captions are measured (``captions.csv`` in the work folder: edit it
and train again); while training, ``STAGE/sheet.png`` shows people that are not learnt from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from magictalk import weights
from magictalk.errors import MagicTalkError, OptionError
from magictalk.face.drawing import draw_landmarks
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.denoising import animatediff_scheduler
from magictalk.render.diffusion.reference import ReferenceNet, as_identity
from magictalk.render.diffusion.text import SentenceText
from magictalk.train.autoencoder import importance
from magictalk.train.looks import captions_for, looks_of, person_of
from magictalk.train.loop import Schedule, command_line, train
from magictalk.train.pictures import Clip, gather, shares_of
from magictalk.train.sequences import need

NANO: dict[str, Any] = {
    "channels": (64, 128, 192), "layers": 1, "heads": 4, "width": 384, "groups": 16, "latent_channels": 8,
}  # fmt: skip
"""Settings that both networks of the nano tier share."""
NANO_REFERENCE: dict[str, Any] = {**NANO, "identity_width": 128, "frames": 16, "motion_heads": 4}
NANO_ANIMATE: dict[str, Any] = {**NANO, "control_channels": (16, 32, 64, 96)}
MOST_OF_ONE = 20
"""Clips that are taken of the speaker of whom there are hundreds."""
DROPPED = 0.1
"""How often text and identity are left out, so that guidance can lead away from that."""
FACE_NOISE = 0.4
"""Standard deviation of noise on a face's embedding, whose numbers have one of about 1: few people stand for many."""


@dataclass(frozen=True)
class Stage:
    """What a stage of training changes; everything else is frozen.

    Attributes:
        name: of its folder.
        learns: names of the weights that are trained, as a regular expression.
        frames: of each video that is learnt from; 1 are pictures.
        videos: at once.
        controlled: whether AnimateNet takes part.
        schedule: how long and how fast.
    """

    name: str
    learns: str
    frames: int
    videos: int
    controlled: bool
    schedule: Schedule


STAGES = (
    Stage("reference", r"reference\.", 1, 16, False, Schedule(1200, 5e-4, every=400)),
    Stage("animate", r"(animate|reference)\.", 1, 16, True, Schedule(2200, 5e-4, every=550)),
    Stage("motion", r"reference\.unet\..*\.motion_modules\.", 16, 1, True, Schedule(600, 3e-4, 100, every=300)),
)
"""The paper's order (sections 3.1 to 3.3): who and how first, then control, then what joins frames.

The nano tier has no pretrained network to begin with, so ReferenceNet learns all of itself, and goes on learning beside
AnimateNet: frozen after its own stage, it left AnimateNet little to steer.
"""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship.

    Attributes:
        side: pixels of the pictures.
        looks: in how many each clip is shown.
        features: how much lips and eyes count.
        unified, contour, motion: False, True, True are the paper's; the others its ablations (tables 2 and 3).
        identity: ``"face"`` is the recogniser's embedding; ``"picture"`` a code of the whole picture in its place
            (table 2, "without face encoder").
        stages: what is trained, in order.
        reference, animate: settings of the networks.
        checkpointing: recompute activations in the backward pass: slower, in less memory.
        seed: of weights and batches.
    """

    side: int = 128
    looks: int = 3
    features: float = 4.0
    unified: bool = False
    contour: bool = True
    motion: bool = True
    identity: str = "face"
    stages: tuple[Stage, ...] = STAGES
    reference: Mapping[str, Any] = field(default_factory=lambda: NANO_REFERENCE)
    animate: Mapping[str, Any] = field(default_factory=lambda: NANO_ANIMATE)
    checkpointing: bool = False
    seed: int = 0


class Batch(NamedTuple):
    """Videos to learn from.

    Attributes:
        latents: ``[B, C, N, h, w]``.
        text: tokens ``[B, L, D]``.
        face: who it is, ``[B, E]``.
        landmarks: ``[B, 3, N, S, S]``, -1..1.
        contour: ``[B, 3, S, S]``, -1..1.
        weight: how much each latent counts ``[B, 1, N, h, w]``, 1 in the mean.
    """

    latents: Tensor
    text: Tensor
    face: Tensor
    landmarks: Tensor
    contour: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same elsewhere."""
        return Batch(*(part.to(device) for part in self))


class Reader(Protocol):
    """Reads captions, as :class:`magictalk.render.diffusion.text.TextEncoder`."""

    def __call__(self, texts: Sequence[str]) -> Tensor: ...


class Videos:
    """Clips in several looks, as latents and conditions, from which batches are drawn.

    Args:
        clips: where from.
        vae: the autoencoder.
        text: reads captions.
        captions: the table of them, which is written.
        settings: of the run.
    """

    def __init__(self, clips: Sequence[Clip], vae: nn.Module, text: Reader, captions: Path, settings: Settings) -> None:
        self.clips, self._shares = clips, shares_of(clips)
        self._seen = [np.flatnonzero(clip.seen) for clip in clips]
        rng = np.random.default_rng(settings.seed)
        people = [person_of(clip) for clip in clips]
        described = captions_for(clips, people, captions)
        self._latents: list[list[Tensor]] = []
        self._text: list[Tensor] = []
        for clip, caption, person in zip(clips, described, people, strict=True):
            looks = looks_of(clip, caption, person, settings.looks, rng)
            self._latents.append([encoded(vae, look.frames) for look in looks])
            self._text.append(text([str(look.caption) for look in looks]).half())
        self.empty = text([""])[0]
        self._landmarks = [landmark_pictures(clip.points, settings.side) for clip in clips]
        self._contours = [np.repeat(clip.contour[None], 3, 0) for clip in clips]
        self._faces = [
            as_identity(torch.from_numpy(clip.face)) if settings.identity == "face" else picture_code(latents[0][0])
            for clip, latents in zip(clips, self._latents, strict=True)
        ]
        self._weights = [_latent_weights(clip, settings, self._latents[0][0].shape[-1]) for clip in clips]

    def draw(self, videos: int, frames: int, rng: np.random.Generator, varied: bool = True) -> Batch:
        """So many videos of so many frames in a row; not varied: as they are, and with everything said."""
        rows = [self._one(int(i), frames, rng, varied) for i in rng.choice(len(self.clips), videos, p=self._shares)]
        return Batch(*(torch.stack(part) for part in zip(*rows, strict=True)))

    def _one(self, i: int, frames: int, rng: np.random.Generator, varied: bool) -> tuple[Tensor, ...]:
        first = int(rng.choice(self._seen[i])) if frames == 1 else int(rng.integers(len(self.clips[i]) - frames + 1))
        here = slice(first, first + frames)
        look = int(rng.integers(len(self._latents[i]))) if varied else 0
        text, face = self._text[i][look].float(), self._faces[i]
        if varied and rng.random() < DROPPED:
            text, face = self.empty, torch.zeros_like(face)
        elif varied:
            face = face + FACE_NOISE * torch.from_numpy(rng.standard_normal(len(face), np.float32))
        return (
            self._latents[i][look][here].float().transpose(0, 1),
            text,
            face,
            torch.from_numpy(self._landmarks[i][here]).permute(3, 0, 1, 2) / 127.5 - 1,
            torch.from_numpy(self._contours[i]) / 127.5 - 1,
            self._weights[i][here][None],
        )


@torch.inference_mode()
def encoded(vae: nn.Module, frames: NDArray[np.uint8], batch: int = 16) -> Tensor:
    """Latents ``[T, C, h, w]``, float16, of frames ``[T, S, S, 3]``."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)
    network = cast(Any, vae)
    parts = [network.encode(part / 127.5 - 1).latent_dist.mode() for part in pictures.split(batch)]
    return (torch.cat(parts) * network.config.scaling_factor).half().clone()


def landmark_pictures(points: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Control pictures ``[T, S, S, 3]`` of meshes ``[T, 478, 2]`` px."""
    return np.stack([draw_landmarks(mesh, side) for mesh in points])


def picture_code(latents: Tensor) -> Tensor:
    """A picture's latents ``[C, h, w]`` as 128 numbers that know nothing of faces."""
    code = nn.functional.adaptive_avg_pool2d(latents.float(), (4, 128 // (4 * len(latents)))).flatten()
    return as_identity(code)


def _latent_weights(clip: Clip, settings: Settings, side: int) -> Tensor:
    """How much the latents of a clip count, ``[T, h, w]``, 1 in the mean of a frame."""
    maps = [importance(points, settings.side, settings.features) for points in clip.points]
    small = torch.from_numpy(np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_AREA) for m in maps]))
    return small / small.mean((1, 2), keepdim=True)


class Talking(nn.Module):
    """Both networks, as they are trained: a batch and the noise in it to the loss of equation 1.

    Args:
        reference, animate: the networks.
        controlled: whether AnimateNet takes part.
    """

    def __init__(self, reference: ReferenceNet, animate: AnimateNet, controlled: bool) -> None:
        super().__init__()
        self.reference: Any = reference
        self.animate: Any = animate
        self.controlled = controlled

    def forward(self, batch: Batch, epsilon: Tensor, t: Tensor, alpha: Tensor) -> Tensor:
        """``E ||epsilon - epsilon_theta(z, t, c)||^2`` (equation 1), lips and eyes counted more.

        Args:
            batch: clean latents and conditions.
            epsilon: the noise.
            t: steps ``[B]`` of the diffusion.
            alpha: the product of alphas at each, ``[B]``.
        """
        a = alpha.view(-1, 1, 1, 1, 1)
        noisy = a.sqrt() * batch.latents + (1 - a).sqrt() * epsilon
        control = self.animate(noisy, t, batch.text, batch.landmarks, batch.contour) if self.controlled else None
        found = self.reference(noisy, t, batch.text, batch.face, control)
        return cast(Tensor, (batch.weight * (found.float() - epsilon) ** 2).mean())


def networks_of(settings: Settings) -> tuple[ReferenceNet, AnimateNet]:
    """Both with fresh weights and no motion blocks."""
    torch.manual_seed(settings.seed)
    reference = ReferenceNet(**settings.reference, motion=False, unified=settings.unified)
    return reference, AnimateNet(**settings.animate, contour=settings.contour)


def freeze(network: Talking, stage: Stage) -> None:
    """Let a stage's weights learn, and no others."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(re.match(stage.learns, name) is not None)


def with_motion(still: ReferenceNet) -> ReferenceNet:
    """The same with motion blocks, which change nothing yet: what they add begins at zero (AnimateDiff)."""
    moving = cast(ReferenceNet, ReferenceNet.from_config(still.config, motion=True))
    for name, parameter in moving.named_parameters():
        if ".motion_modules." in name and ".proj_out." in name:
            nn.init.zeros_(parameter)
    moving.load_state_dict(moving.state_dict() | still.state_dict())
    return moving


def run(
    settings: Settings, taught: Videos, rest: Videos, vae: nn.Module, work: Path, log: Callable[[str], None]
) -> tuple[ReferenceNet, AnimateNet]:
    """Train all stages; ``rest`` is looked at as training goes."""
    reference, animate = networks_of(settings)
    alphas: Tensor = cast(Any, animatediff_scheduler()).alphas_cumprod
    for stage in settings.stages:
        if stage.name == "motion" and not settings.motion:
            continue
        log(f"stage {stage.name}")
        if stage.name == "animate":
            animate.clone(reference)
        if stage.name == "motion":
            reference = with_motion(reference)
        network = Talking(reference, animate, stage.controlled)
        freeze(network, stage)
        if settings.checkpointing:
            reference.enable_gradient_checkpointing()
            animate.enable_gradient_checkpointing()
        folder = work / stage.name
        looks = [rest.draw(stage.videos, stage.frames, np.random.default_rng([1, i]), varied=False) for i in range(8)]

        def loss_on(wrapped: nn.Module, batch: Batch, rng: np.random.Generator, device: torch.device) -> Tensor:
            t = torch.from_numpy(rng.integers(0, len(alphas), len(batch.latents)))
            epsilon = torch.from_numpy(rng.standard_normal(batch.latents.shape, np.float32)).to(device)
            return cast(Tensor, wrapped(batch.to(device), epsilon, t.to(device), alphas[t].to(device)))

        def step(wrapped: nn.Module, rng: np.random.Generator, device: torch.device, stage: Stage = stage) -> Tensor:
            return loss_on(wrapped, taught.draw(stage.videos, stage.frames, rng), rng, device)

        def held(mean: nn.Module, device: torch.device, looks: list[Batch] = looks, folder: Path = folder) -> float:
            network = cast(Talking, mean)
            sheet(network, vae, looks[0], rest.empty, folder / "sheet.png", device)
            with torch.inference_mode():
                found = [
                    loss_on(network, batch, np.random.default_rng([2, i]), device) for i, batch in enumerate(looks)
                ]
            return float(torch.stack(found).mean())

        trained = cast(
            Talking,
            train(network, step, held, stage.schedule, folder, log, settings=f"{replace(settings, stages=(stage,))}"),
        )
        reference, animate = trained.reference, trained.animate
    return reference, animate


@torch.inference_mode()
def sheet(
    network: Talking, vae: nn.Module, batch: Batch, empty: Tensor, path: Path, device: torch.device, steps: int = 12
) -> None:
    """Pictures out of noise below the real ones and their control pictures, at the running mean's weights."""
    shown = 8
    scheduler = cast(Any, animatediff_scheduler())
    scheduler.set_timesteps(steps)
    parts = Batch(*(part[:shown] for part in batch)).to(device)
    x = torch.randn(parts.latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
    both = [torch.cat([a, b]) for a, b in ((empty.to(device).expand_as(parts.text), parts.text),
                                           (torch.zeros_like(parts.face), parts.face))]  # fmt: skip
    for t in scheduler.timesteps:
        control = network.animate(x, t, parts.text, parts.landmarks, parts.contour) if network.controlled else None
        if control:
            control = tuple(part.repeat(2, 1, 1, 1) for part in control[0]), control[1].repeat(2, 1, 1, 1)
        plain, asked = network.reference(torch.cat([x, x]), t, *both, control).chunk(2)
        x = scheduler.step(plain + 2.0 * (asked - plain), int(t), x).prev_sample
    last = parts.latents.shape[2] - 1
    coder = cast(Any, vae)
    rows = [coder.decode(z[:, :, last].cpu() / coder.config.scaling_factor).sample for z in (parts.latents, x)]
    rows.insert(1, torch.maximum(parts.landmarks[:, :, last], parts.contour).cpu())
    grid = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
    picture = ((grid.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, sum(stage.schedule.steps for stage in STAGES))
    parser.add_argument("--vae", type=Path, required=True, help="the autoencoder's folder")
    parser.add_argument("--looks", type=int, default=Settings.looks)
    parser.add_argument("--without", choices=("decoupling", "face", "contour", "motion"), help="an ablation")
    parser.add_argument("--checkpointing", action="store_true", help="less memory, slower")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share = options.steps / sum(stage.schedule.steps for stage in STAGES)
    try:
        if share <= 0 or options.looks < 1:
            raise OptionError(f"steps are {options.steps} and looks {options.looks}; expected 1 or more")
        settings = Settings(
            looks=options.looks,
            unified=options.without == "decoupling",
            contour=options.without != "contour",
            motion=options.without != "motion",
            identity="picture" if options.without == "face" else "face",
            stages=tuple(replace(s, schedule=_shorter(s.schedule, share, options.seed)) for s in STAGES),
            checkpointing=options.checkpointing,
            seed=options.seed,
        )
        vae = cast(nn.Module, weights.load(AutoencoderKL, options.vae))
        clips = gather(options.data, settings.side, "train", "val", most=MOST_OF_ONE)
        print(f"{len(clips)} clips, {sum(map(len, clips)) / 25 / 60:.1f} minutes", flush=True)
        text = SentenceText()
        options.work.mkdir(parents=True, exist_ok=True)
        sets = [[clip for clip in clips if clip.split == split] for split in ("train", "val")]
        need(*map(len, sets))
        table = options.work / "captions.csv"
        taught = Videos(sets[0], vae, text, table, settings)
        rest = Videos(sets[1], vae, text, table, replace(settings, looks=1))
        reference, animate = run(settings, taught, rest, vae, options.work, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    for network, name in ((reference, "reference"), (animate, "animate")):
        cast(Any, network).half().save_pretrained(options.out / name)


def _shorter(schedule: Schedule, share: float, seed: int) -> Schedule:
    steps = max(1, round(schedule.steps * share))
    return replace(schedule, steps=steps, warmup=min(schedule.warmup, steps // 4), seed=seed)


if __name__ == "__main__":
    main()
