"""Train the nano tier of PortraitTalk: IdentityNet by masked frames, AnimateNet, both with the frame before.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.portrait_talk --data out/dataset --work out/portrait-talk -o out/portrait-talk/weights

Begins with MAGIC-Talk's networks of the package (or ``--base FOLDER``), which ``recipes/magic_talk.sh`` trains. In the
last stage the frame before is, in half of the batches, one that the networks made: what they get wrong then does not
surprise them when they go on from their own frames for minutes.
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
from torch import Tensor, nn

from magictalk import weights
from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion.animate import PREVIOUS, AnimateNet
from magictalk.render.diffusion.reference import IDENTITY_PARTS, ReferenceNet, without_motion
from magictalk.render.diffusion.schedule import alphas
from magictalk.render.diffusion.tiers import SHIPPED
from magictalk.train.loop import Schedule, command_line, moved, train
from magictalk.train.magic_talk import guided, sheet_of
from magictalk.train.masking import Masking
from magictalk.train.videos import FACE_NOISE, Looking, Shown, Videos, gathered

ABLATIONS = "face", "contour", "previous", "mask"
"""What a run can be without: the face recogniser (which ``--base`` must be without too), head placement, the frame
before, masked fine-tuning."""
PICTURES = 4
"""Embeddings of a person that IdentityNet is given at once in training; some may be the same one's."""
ELSEWHERE = 0.15
"""How often the frame before is any of the clip's: before the first frame there is a portrait."""
BEFORE_NOISE = 0.06
"""Standard deviation of noise on the frame before, so that its grain is not taken for the next one's."""


@dataclass(frozen=True)
class Stage:
    """What a stage of training changes; everything else is frozen.

    Attributes:
        name: of its folder.
        learns: names of the weights that are trained, as a regular expression.
        schedule: how long and how fast.
        controlled: whether AnimateNet takes part.
        previous: whether the frame before is looked at.
        own: share of batches in which that frame is one that the networks made.
        elsewhere: share of frames whose frame before is any of the clip's.
        masked: whether regions of frames are corrupted.
        videos: at once.
    """

    name: str
    learns: str
    schedule: Schedule
    controlled: bool = True
    previous: bool = False
    own: float = 0.0
    elsewhere: float = ELSEWHERE
    masked: bool = False
    videos: int = 16


_IDENTITY = rf"reference\.{IDENTITY_PARTS}"
STAGES = (
    Stage("identity", _IDENTITY, Schedule(500, 3e-4, 100, every=250), controlled=False, masked=True),
    Stage("animate", r"animate\.(?!.*previous)", Schedule(600, 5e-4, 100, every=300)),
    Stage("together", rf"animate\.|{_IDENTITY}", Schedule(1800, 5e-4, 100, every=450), previous=True),
    Stage("drift", rf"animate\.|{_IDENTITY}", Schedule(1500, 3e-4, 50, every=500), previous=True, own=0.5),
    Stage(
        "anchored", rf"animate\.|{_IDENTITY}", Schedule(700, 4e-4, 50, every=350), previous=True, own=0.3, elsewhere=0.6
    ),
)
"""The paper's order (IV-B): IdentityNet; AnimateNet without temporal attention; everything, here first after real
frames, then after the networks' own, then mostly after other frames of the clip: so the portrait may stand in their
place, and the mouth is where the landmarks are.

IdentityNet's own are the projection and the cross-attentions, over MAGIC-Talk's UNet: so little is added to what ships.
The paper's rates are for networks that know pictures already and for 32 videos at a time: 5e-6, with AdamW.
"""


@dataclass(frozen=True)
class Settings(Looking):
    """What a run can change; the defaults trained the weights that ship.

    Attributes:
        masking: what is corrupted.
        stages: what is trained, in order.
        contour, previous: False are ablations.
        identity: ``"picture"`` is another: a code of the picture in place of the face recogniser's embedding.
    """

    masking: Masking = field(default_factory=Masking)
    stages: tuple[Stage, ...] = STAGES
    contour: bool = True
    previous: bool = True
    identity: str = "face"


class Batch(NamedTuple):
    """Frames to learn from, and what came before each.

    Attributes:
        latents: ``[B, C, 1, h, w]``.
        text: tokens ``[B, L, D]``.
        face: who it is, ``[B, R, E]``.
        landmarks, contour, previous: of the frame, of the head before, and the frame before ``[B, 3, S, S]``, -1..1.
        weight: how much each latent counts ``[B, 1, 1, h, w]``.
        pictures: the frames themselves ``[B, 3, S, S]``, -1..1.
    """

    latents: Tensor
    text: Tensor
    face: Tensor
    landmarks: Tensor
    contour: Tensor
    previous: Tensor
    weight: Tensor
    pictures: Tensor


class Frames:
    """Draws frames and those before them.

    Args:
        videos: where from; with the outlines of heads.
    """

    def __init__(self, videos: Videos) -> None:
        self.videos, self.empty = videos, videos.empty

    def draw(
        self, count: int, rng: np.random.Generator, varied: bool = True, elsewhere: float = ELSEWHERE
    ) -> tuple[Batch, Batch]:
        """So many frames, and the frames before them, each with what came before it; ``elsewhere``: see Stage."""
        videos = self.videos
        rows = [
            self._pair(
                videos.shown[i][int(rng.integers(len(videos.shown[i]))) if varied else 0], rng, varied, elsewhere
            )
            for i in rng.choice(len(videos.clips), count, p=videos.shares)
        ]
        now, before = ([row[k] for row in rows] for k in (0, 1))
        return tuple(Batch(*(torch.stack(p) for p in zip(*part, strict=True))) for part in (now, before))  # type: ignore[return-value]

    def _pair(self, shown: Shown, rng: np.random.Generator, varied: bool, elsewhere: float) -> tuple[Batch, Batch]:
        t = int(rng.choice(shown.seen[shown.seen >= 2])) if (shown.seen >= 2).any() else len(shown) - 1
        before = int(rng.integers(len(shown))) if varied and rng.random() < elsewhere else t - 1
        face = shown.face.expand(PICTURES, -1)
        text = shown.text.float()
        if varied:
            face = face + FACE_NOISE * torch.from_numpy(rng.standard_normal(tuple(face.shape), np.float32))
            text, face = self.videos.dropped(text, face, rng)
        return self._one(shown, t, before, text, face), self._one(shown, before, max(0, before - 1), text, face)

    def _one(self, shown: Shown, t: int, before: int, text: Tensor, face: Tensor) -> Batch:
        clip = shown.clip
        assert clip.heads is not None
        return Batch(
            shown.latents[t].float()[:, None],
            text,
            face,
            _picture(shown.landmarks[t]),
            _picture(np.repeat(clip.heads[before][..., None], 3, -1)),
            _picture(clip.frames[before]),
            shown.weight[t][None, None],
            _picture(clip.frames[t]),
        )


def _picture(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


class Portraying(nn.Module):
    """Both networks, as they are trained.

    Args:
        reference, animate: the networks.
        stage: see there.
    """

    def __init__(self, reference: ReferenceNet, animate: AnimateNet, stage: Stage) -> None:
        super().__init__()
        self.reference: Any = reference
        self.animate: Any = animate
        self.stage = stage

    def forward(self, batch: Batch, noisy: Tensor, t: Tensor) -> Tensor:
        """The noise ``[B, C, 1, h, w]`` that the networks see in noisy latents at steps ``t [B]``."""
        return cast(Tensor, self.reference(noisy, t, batch.text, batch.face, self.control(batch, noisy, t)))

    def control(self, batch: Batch, noisy: Tensor, t: Tensor) -> Any:
        """What AnimateNet adds, if it takes part."""
        if not self.stage.controlled:
            return None
        known = {PREVIOUS: float(self.stage.previous)}
        return self.animate(
            noisy, t, batch.text, batch.landmarks[:, :, None], batch.contour, known, batch.previous[:, :, None]
        )


def noised(latents: Tensor, epsilon: Tensor, alpha: Tensor) -> Tensor:
    """``sqrt(a) z + sqrt(1 - a) epsilon`` with the product of alphas ``[B]``."""
    a = alpha.view(-1, 1, 1, 1, 1)
    return a.sqrt() * latents + (1 - a).sqrt() * epsilon


def cleaned(noisy: Tensor, epsilon: Tensor, alpha: Tensor) -> Tensor:
    """The latents that are left when that noise is taken out."""
    a = alpha.view(-1, 1, 1, 1, 1)
    return (noisy - (1 - a).sqrt() * epsilon) / a.sqrt()


def restoring_noise(noisy: Tensor, latents: Tensor, alpha: Tensor) -> Tensor:
    """The noise that, taken out of noisy latents, would leave ``latents``.

    Of unmasked latents that is the noise put in. Equation 1 as printed asks for the noise put into *masked* latents,
    which would leave the masks; the text around it has the network "reconstruct the original", which this does.
    """
    a = alpha.view(-1, 1, 1, 1, 1)
    return (noisy - a.sqrt() * latents) / (1 - a).sqrt()


def mask_loss(found: Tensor, noisy: Tensor, latents: Tensor, weight: Tensor, alpha: Tensor) -> Tensor:
    """Equation 1 over the whole frame, errors counted as those of the latents: ``(1 - a) / a`` of those of the noise.

    Where there is little noise the masks are far from any noise that there could be; errors of noise would count them
    alone.
    """
    a = alpha.view(-1, 1, 1, 1, 1)
    error = (found - restoring_noise(noisy, latents, alpha)) ** 2
    return ((1 - a) / a * weight * error).mean()


def networks_of(settings: Settings, reference: ReferenceNet, animate: AnimateNet) -> tuple[ReferenceNet, AnimateNet]:
    """IdentityNet and AnimateNet, begun with what MAGIC-Talk's networks know."""
    torch.manual_seed(settings.seed)
    differing = {"contour": settings.contour, "previous": settings.previous}
    own = cast(AnimateNet, AnimateNet.from_config(animate.config, **differing))
    known, given = own.state_dict(), animate.state_dict()
    for name, value in known.items():
        if name in given and given[name].shape == value.shape:
            known[name] = given[name]
    name = "net.controlnet_cond_embedding.conv_in.weight"
    taken = min(known[name].shape[1], given[name].shape[1])
    known[name] = torch.zeros_like(known[name])  # pictures that are new are not looked at yet
    known[name][:, :taken] = given[name][:, :taken]
    own.load_state_dict(known)
    return without_motion(reference), own


def freeze(network: Portraying, stage: Stage) -> None:
    """Let a stage's weights learn, and no others."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(re.match(stage.learns, name) is not None)


def run(
    settings: Settings, networks: tuple[ReferenceNet, AnimateNet], taught: Frames, rest: Frames, vae: nn.Module,
    work: Path, log: Callable[[str], None],
) -> tuple[ReferenceNet, AnimateNet]:  # fmt: skip
    """Train all stages; ``rest`` is looked at as training goes."""
    reference, animate = networks
    products = alphas()
    for stage in settings.stages:
        log(f"stage {stage.name}")
        stage = replace(stage, previous=stage.previous and settings.previous)
        network = Portraying(reference, animate, stage)
        freeze(network, stage)
        looks = [rest.draw(stage.videos, np.random.default_rng([1, i]), varied=False) for i in range(8)]

        def loss_on(
            wrapped: nn.Module, pair: tuple[Batch, Batch], rng: np.random.Generator, device: torch.device,
            own: bool, stage: Stage = stage,
        ) -> Tensor:  # fmt: skip
            batch, before = (moved(part, device) for part in pair)
            if own:
                batch = batch._replace(previous=made(wrapped, vae, before, rng, device))
            noise = torch.from_numpy(rng.standard_normal(tuple(batch.previous.shape), np.float32)).to(device)
            batch = batch._replace(previous=batch.previous + BEFORE_NOISE * noise)
            t = torch.from_numpy(rng.integers(0, len(products), len(batch.latents)))
            alpha = products[t].to(device)
            epsilon = torch.from_numpy(rng.standard_normal(tuple(batch.latents.shape), np.float32)).to(device)
            shown = batch.latents
            if stage.masked:
                shown = _latents(vae, settings.masking.corrupted(batch.pictures.cpu(), rng)).to(device)
            noisy = noised(shown, epsilon, alpha)
            found = wrapped(batch, noisy, t.to(device)).float()
            if stage.masked:
                return mask_loss(found, noisy, batch.latents, batch.weight, alpha)
            error = (found - epsilon) ** 2  # equation 3; of the velocity, as in MAGIC-Talk's training
            return cast(Tensor, (batch.weight * error / alpha.view(-1, 1, 1, 1, 1)).mean())

        def step(
            wrapped: nn.Module, rng: np.random.Generator, device: torch.device, stage: Stage = stage,
            loss_on: Callable[..., Tensor] = loss_on,
        ) -> Tensor:  # fmt: skip
            pair = taught.draw(stage.videos, rng, elsewhere=stage.elsewhere)
            return loss_on(wrapped, pair, rng, device, rng.random() < stage.own)

        def held(
            mean: nn.Module, device: torch.device, looks: list[tuple[Batch, Batch]] = looks,
            folder: Path = work / stage.name, loss_on: Callable[..., Tensor] = loss_on,
        ) -> float:  # fmt: skip
            network = cast(Portraying, mean)
            sheet(network, vae, looks[0][0], rest.empty, folder / "sheet.png", device)
            with torch.inference_mode():
                found = [loss_on(network, pair, np.random.default_rng([2, i]), device, False)
                         for i, pair in enumerate(looks)]  # fmt: skip
            return float(torch.stack(found).mean())

        told = f"{replace(settings, stages=(stage,))}"
        trained = cast(Portraying, train(network, step, held, stage.schedule, work / stage.name, log, settings=told))
        reference, animate = trained.reference, trained.animate
    return reference, animate


@torch.no_grad()
def made(network: nn.Module, vae: nn.Module, batch: Batch, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Frames ``[B, 3, S, S]`` as the networks make them: what is left of much noise, in one step."""
    t = torch.from_numpy(rng.integers(300, 900, len(batch.latents)))
    alpha = alphas()[t].to(device)
    epsilon = torch.from_numpy(rng.standard_normal(tuple(batch.latents.shape), np.float32)).to(device)
    noisy = noised(batch.latents, epsilon, alpha)
    latents = cleaned(noisy, network(batch, noisy, t.to(device)).float(), alpha)[:, :, 0].cpu()
    coder = cast(Any, vae)
    return cast(Tensor, coder.decode(latents / coder.config.scaling_factor).sample.clamp(-1, 1).to(device))


@torch.no_grad()
def _latents(vae: nn.Module, pictures: Tensor) -> Tensor:
    coder = cast(Any, vae)
    return cast(Tensor, coder.encode(pictures).latent_dist.mode() * coder.config.scaling_factor)[:, :, None]


def sheet(network: Portraying, vae: nn.Module, batch: Batch, empty: Tensor, path: Path, device: torch.device) -> None:
    """Frames out of noise below the real ones and what is known of them."""
    parts = moved(Batch(*(part[:8] for part in batch)), device)
    text = torch.cat([empty.to(device).expand_as(parts.text), parts.text])
    face = torch.cat([torch.zeros_like(parts.face), parts.face])

    def noise_of(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return guided(network.reference, x, t, text, face, network.control(parts, x, t))

    known = torch.maximum(parts.landmarks, parts.contour), parts.previous
    sheet_of(noise_of, vae, parts.latents, [row.cpu() for row in known], path, device)


def settings_for(
    steps: int, without: str | None = None, looks: int = Looking.looks, seed: int = 0, ratio: float = Masking.ratio
) -> Settings:
    """A run of so many steps, all stages together, whole or without one of ``ABLATIONS``.

    Raises:
        OptionError: when steps or looks are none, or the ratio is no share.
    """
    share = steps / sum(stage.schedule.steps for stage in STAGES)
    if share <= 0:
        raise OptionError(f"steps are {steps}; expected 1 or more")
    stages = tuple(
        replace(s, schedule=s.schedule.shorter(share, seed), masked=s.masked and without != "mask") for s in STAGES
    )
    return Settings(
        looks=looks,
        seed=seed,
        masking=Masking(ratio),
        stages=stages,
        contour=without != "contour",
        previous=without != "previous",
        identity="picture" if without == "face" else "face",
    )


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, sum(stage.schedule.steps for stage in STAGES))
    parser.add_argument("--base", type=Path, help="a folder with vae, reference and animate, not the package's")
    parser.add_argument("--looks", type=int, default=Looking.looks)
    parser.add_argument("--mask-ratio", type=float, default=Masking.ratio, help="share of a frame that is corrupted")
    parser.add_argument("--without", choices=ABLATIONS, help="an ablation")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    def log(line: str) -> None:
        print(line, flush=True)

    try:
        settings = settings_for(options.steps, options.without, options.looks, options.seed, options.mask_ratio)
        own = ("vae", "reference", "animate")
        names = [options.base / name for name in own] if options.base else SHIPPED
        vae = cast(nn.Module, weights.load(AutoencoderKL, names[0]))
        base = weights.load(ReferenceNet, names[1]), weights.load(AnimateNet, names[2])
        videos = gathered(options.data, vae, options.work / "captions.csv", settings, log)
        if settings.identity == "picture":
            videos = videos[0].by_picture(), videos[1].by_picture()
        taught, rest = map(Frames, videos)
        log(f"{len(videos[0].clips)} clips, {sum(map(len, videos[0].clips)) / 25 / 60:.1f} minutes")
        reference, animate = run(settings, networks_of(settings, *base), taught, rest, vae, options.work, log)
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    save(reference, animate, options.out)


def save(reference: ReferenceNet, animate: AnimateNet, folder: Path) -> None:
    """AnimateNet as ``animate``, and as ``identity`` what IdentityNet has of its own, in half precision."""
    import json

    from safetensors.torch import save_file

    cast(Any, animate).half().save_pretrained(folder / "animate")
    own = {
        name: value.half().contiguous()
        for name, value in reference.state_dict().items()
        if re.match(IDENTITY_PARTS, name)
    }
    (folder / "identity").mkdir(parents=True, exist_ok=True)
    save_file(own, folder / "identity" / weights.WEIGHTS)
    facts = {"_class_name": "IdentityNet", "over": "a ReferenceNet without motion blocks"}
    (folder / "identity" / weights.CONFIG).write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
