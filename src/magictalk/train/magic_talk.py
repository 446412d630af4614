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
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from magictalk import weights
from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion.animate import AnimateNet
from magictalk.render.diffusion.fusion import mixed
from magictalk.render.diffusion.reference import ReferenceNet
from magictalk.render.diffusion.schedule import alphas, animatediff_scheduler
from magictalk.train.loop import Schedule, command_line, moved, train
from magictalk.train.videos import Batch, Looking, Videos, gathered

NANO: dict[str, Any] = {
    "channels": (64, 128, 192), "layers": 1, "heads": 4, "width": 384, "groups": 16, "latent_channels": 4, "fold": 2,
}  # fmt: skip
"""Settings that both networks of the nano tier share."""
NANO_REFERENCE: dict[str, Any] = {**NANO, "identity_width": 128, "frames": 16, "motion_heads": 4, "velocity": True}
NANO_ANIMATE: dict[str, Any] = {**NANO, "control_channels": (16, 32, 64, 96)}
ABLATIONS = "decoupling", "face", "contour", "motion"
"""What a run can be without: keys of its own for each condition, the face recogniser, the contour, motion blocks."""


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
    Stage("reference", r"reference\.", 1, 16, False, Schedule(1000, 5e-4, every=250)),
    Stage("animate", r"(animate|reference)\.", 1, 16, True, Schedule(2600, 5e-4, every=650)),
    Stage("together", r"(animate|reference)\.", 1, 16, True, Schedule(3000, 4e-4, every=750)),
    Stage("motion", r"reference\.unet\..*\.motion_modules\.", 16, 1, True, Schedule(700, 3e-4, 100, every=350)),
)
"""The paper's order (sections 3.1 to 3.3): who and how first, then control, then what joins frames.

The nano tier has no pretrained network to begin with, so ReferenceNet learns all of itself, and goes on learning beside
AnimateNet: frozen after its own stage, it left AnimateNet little to steer. Both then go on at a rate raised once more.
"""


@dataclass(frozen=True)
class Settings(Looking):
    """What a run can change; the defaults trained the weights that ship.

    Attributes:
        unified, contour, motion: False, True, True are the paper's; the others its ablations (tables 2 and 3).
        identity: ``"face"`` is the recogniser's embedding; ``"picture"`` a code of the whole picture in its place
            (table 2, "without face encoder").
        stages: what is trained, in order.
        reference, animate: settings of the networks.
        checkpointing: recompute activations in the backward pass: slower, in less memory.
        seed: of strangers, weights and batches.
    """

    unified: bool = False
    contour: bool = True
    motion: bool = True
    identity: str = "face"
    stages: tuple[Stage, ...] = STAGES
    reference: Mapping[str, Any] = field(default_factory=lambda: NANO_REFERENCE)
    animate: Mapping[str, Any] = field(default_factory=lambda: NANO_ANIMATE)
    checkpointing: bool = False


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

        Of networks that say the velocity, errors count as those of the velocity: ``1 / a`` of those of the noise.

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
        error = (found.float() - epsilon) ** 2
        return cast(Tensor, (batch.weight * (error / a if self.reference.config["velocity"] else error)).mean())


def noise_for(latents: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise for latents ``[B, C, N, h, w]``; frames of a video have more or less of it in common."""
    own = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    if latents.shape[2] == 1:
        return own
    return mixed(torch.from_numpy(rng.standard_normal(own[:, :, :1].shape, np.float32)), own, float(rng.random()))


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
    if settings.identity == "picture":
        taught, rest = taught.by_picture(), rest.by_picture()
    reference, animate = networks_of(settings)
    a = alphas()
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
            t = torch.from_numpy(rng.integers(0, len(a), len(batch.latents)))
            epsilon = noise_for(batch.latents, rng).to(device)
            return cast(Tensor, wrapped(moved(batch, device), epsilon, t.to(device), a[t].to(device)))

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

        told = f"{replace(settings, stages=(stage,), motion=True)}"  # motion only says whether the last stage is run
        trained = cast(Talking, train(network, step, held, stage.schedule, folder, log, settings=told))
        reference, animate = trained.reference, trained.animate
    return reference, animate


def sheet(
    network: Talking, vae: nn.Module, batch: Batch, empty: Tensor, path: Path, device: torch.device, steps: int = 12
) -> None:
    """Pictures out of noise below the real ones and their control pictures, at the running mean's weights."""
    parts = moved(Batch(*(part[:8] for part in batch)), device)
    text = torch.cat([empty.to(device).expand_as(parts.text), parts.text])
    face = torch.cat([torch.zeros_like(parts.face), parts.face])

    def noise_of(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        control = network.animate(x, t, parts.text, parts.landmarks, parts.contour) if network.controlled else None
        return guided(network.reference, x, t, text, face, control)

    last = parts.latents.shape[2] - 1
    lines = torch.maximum(parts.landmarks[:, :, last], parts.contour)
    sheet_of(noise_of, vae, parts.latents, [lines.cpu()], path, device, steps)


def guided(reference: Any, x: Tensor, t: Tensor, text: Tensor, face: Tensor, control: Any) -> tuple[Tensor, Tensor]:
    """The noise without and with what is asked for; ``text`` and ``face`` hold both, one behind the other."""
    if control:
        control = tuple(part.repeat(2, 1, 1, 1) for part in control[0]), control[1].repeat(2, 1, 1, 1)
    plain, asked = reference(torch.cat([x, x]), t, text, face, control).chunk(2)
    return plain, asked


@torch.inference_mode()
def sheet_of(
    noise_of: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], vae: nn.Module, latents: Tensor,
    rows: Sequence[Tensor], path: Path, device: torch.device, steps: int = 12,
) -> None:  # fmt: skip
    """A picture: what latents ``[B, C, N, h, w]`` show in their last frame, ``rows [B, 3, S, S]``, what is generated.

    Args:
        noise_of: the noise that networks see in latents, without and with what is asked for.
        vae: the autoencoder.
        latents: of the real frames.
        rows: further pictures.
        path: where it is written.
        device: of the networks.
        steps: of DDIM.
    """
    scheduler = cast(Any, animatediff_scheduler())
    scheduler.set_timesteps(steps)
    x = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
    for t in scheduler.timesteps:
        plain, asked = noise_of(x, t)
        x = scheduler.step(plain + 2.0 * (asked - plain), int(t), x).prev_sample
    coder = cast(Any, vae)
    real, generated = (coder.decode(z[:, :, -1].cpu() / coder.config.scaling_factor).sample for z in (latents, x))
    grid = torch.cat([torch.cat(list(row), -1) for row in (real, *rows, generated)], -2)
    picture = ((grid.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def settings_for(
    steps: int, without: str | None = None, looks: int = Settings.looks, seed: int = 0, checkpointing: bool = False
) -> Settings:
    """A run of so many steps, all stages together, whole or without one of ``ABLATIONS``.

    Raises:
        OptionError: when steps or looks are none.
    """
    share = steps / sum(stage.schedule.steps for stage in STAGES)
    if share <= 0:
        raise OptionError(f"steps are {steps}; expected 1 or more")
    return Settings(
        looks=looks,
        unified=without == "decoupling",
        contour=without != "contour",
        motion=without != "motion",
        identity="picture" if without == "face" else "face",
        stages=tuple(replace(s, schedule=s.schedule.shorter(share, seed)) for s in STAGES),
        checkpointing=checkpointing,
        seed=seed,
    )


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, sum(stage.schedule.steps for stage in STAGES))
    parser.add_argument("--vae", type=Path, required=True, help="the autoencoder's folder")
    parser.add_argument("--looks", type=int, default=Settings.looks)
    parser.add_argument("--without", choices=ABLATIONS, help="an ablation")
    parser.add_argument("--checkpointing", action="store_true", help="less memory, slower")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    def log(line: str) -> None:
        print(line, flush=True)

    try:
        settings = settings_for(options.steps, options.without, options.looks, options.seed, options.checkpointing)
        vae = cast(nn.Module, weights.load(AutoencoderKL, options.vae))
        taught, rest = gathered(options.data, vae, options.work / "captions.csv", settings, log)
        log(f"{len(taught.clips)} clips, {sum(map(len, taught.clips)) / 25 / 60:.1f} minutes")
        reference, animate = run(settings, taught, rest, vae, options.work, log)
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    save(reference, animate, options.out)


def save(reference: ReferenceNet, animate: AnimateNet, folder: Path) -> None:
    """Both networks as ``reference`` and ``animate`` in a folder, in half precision."""
    for network, name in ((reference, "reference"), (animate, "animate")):
        cast(Any, network).half().save_pretrained(folder / name)


if __name__ == "__main__":
    main()
