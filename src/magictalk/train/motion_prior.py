"""Train MCDM's motion prior (section 3.3): encoders of motion tokens first, then the noise in the tokens.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.motion_prior --data out/dataset --work out/motion-prior -o out/motion-prior/weights

No pixels are learnt: sound, tracked motion and the recogniser's embedding of who is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk.audio.features import MELS, MELS_PER_FRAME
from magictalk.data.dataset import Dataset
from magictalk.drive.audio2bs import Audio2BSDrive
from magictalk.drive.emodiff import scheduler_for_training
from magictalk.drive.motion_prior import HEAD, SILENT, STREAMS, MotionPrior, MotionTokens, progressive, rows_of
from magictalk.errors import MagicTalkError, OptionError
from magictalk.face.recognition import as_identity
from magictalk.face.rig import Rig
from magictalk.train.loop import Schedule, command_line, moved, train
from magictalk.train.sequences import Talk, balance, mirror, need, starts_of, talk_of
from magictalk.train.variational import SHARES, veiled

LEAST_SPREAD = 0.02
"""What moves less than this is not enlarged further."""
SOUND = MELS * MELS_PER_FRAME
"""How many of the numbers that are heard are log-mel; the others were read from it: lips, and whether one speaks."""
MISREAD = 0.3
"""Spread of what is added to those in training, whose people their network had seen, in usual movements."""
MOTION = 0.5
"""How much the motion that tokens decode to counts beside equation 3."""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship.

    Attributes:
        frames: of a window.
        batch: windows at once.
        guided: share of windows that a driving head leads; the others' landmarks are dropped whole.
        nobody: share of windows of which it is not said who is seen.
        tokens, prior: settings of the networks.
        encoding, denoising: how long each stage lasts.
    """

    frames: int = 64
    batch: int = 8
    guided: float = 0.3
    nobody: float = 0.2
    tokens: dict[str, Any] = field(default_factory=dict)
    prior: dict[str, Any] = field(default_factory=dict)
    encoding: Schedule = field(default_factory=lambda: Schedule(4000, 2e-3, 100, every=1000))
    denoising: Schedule = field(default_factory=lambda: Schedule(2000, 1e-3, every=500))


@dataclass(frozen=True)
class Example:
    """A clip, what is heard in it ``[T, 350]``, and who is seen ``[128]``."""

    talk: Talk
    heard: NDArray[np.float32]
    image: NDArray[np.float32]


class Batch(NamedTuple):
    """Windows.

    Attributes:
        motion: ``[B, f, 58]``.
        heard: ``[B, f + ahead, features]``.
        image: ``[B, E]``, zeros of nobody in particular.
        guided: bool ``[B]``.
    """

    motion: Tensor
    heard: Tensor
    image: Tensor
    guided: Tensor


class Windows:
    """Draws batches of windows from clips.

    Args:
        examples: clips.
        settings: of the run.
        ahead: frames of sound beyond a window's last.
    """

    def __init__(self, examples: Sequence[Example], settings: Settings, ahead: int) -> None:
        usable = [(e, starts_of(e.talk, settings.frames)) for e in examples]
        self._examples = [(e, starts) for e, starts in usable if len(starts)]
        self._settings, self._ahead = settings, ahead
        talks = [e.talk for e, _ in self._examples]
        self._shares = balance([talk.kind for talk in talks], [len(talk) for talk in talks], SHARES)

    def __call__(self, count: int, rng: np.random.Generator, varied: bool = True) -> Batch:
        """``count`` windows; not varied: as they are, and half of them guided."""
        rows = [self._one(int(i), rng, varied) for i in rng.choice(len(self._examples), count, p=self._shares)]
        motion, heard, image = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        guided = torch.from_numpy(rng.random(count) < self._settings.guided) if varied else torch.arange(count) % 2 == 1
        return Batch(motion, heard, image, guided)

    def _misread(self, rows: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """What was read as it would be of a stranger, whom it is further off than people it learnt from."""
        wrong = rng.normal(0, MISREAD, (len(rows) // 6 + 2, rows.shape[1]))
        at = np.linspace(0, len(wrong) - 1, len(rows))
        slow = np.stack([np.interp(at, np.arange(len(wrong)), column) for column in wrong.T], 1)
        return (rows + slow).astype(np.float32)

    def motions(self) -> Tensor:
        """All frames that can teach ``[N, 58]``."""
        return torch.from_numpy(np.concatenate([e.talk.motion[e.talk.seen] for e, _ in self._examples]))

    def _one(self, i: int, rng: np.random.Generator, varied: bool) -> tuple[NDArray[np.float32], ...]:
        example, starts = self._examples[i]
        start, frames = int(rng.choice(starts)), self._settings.frames
        motion = example.talk.motion[start : start + frames]
        rows = example.heard[start : start + frames + self._ahead]
        missing = frames + self._ahead - len(rows)
        rows = np.concatenate([rows, np.tile(SILENT, (missing, 1))])
        image = as_identity(torch.from_numpy(example.image)).numpy()
        if varied:
            motion = mirror(motion) if rng.random() < 0.5 else motion
            rows = np.concatenate([veiled(rows[:, :SOUND], rng), self._misread(rows[:, SOUND:], rng)], 1)
            image = np.zeros_like(image) if rng.random() < self._settings.nobody else image
        return motion.astype(np.float32), rows.astype(np.float32), image.astype(np.float32)


def token_loss(tokens: nn.Module, motion: Tensor) -> Tensor:
    """How far motion ``[B, f, 58]`` that went through its tokens is off."""
    return off_by(tokens(motion), motion, cast(Any, getattr(tokens, "module", tokens)).std)


def off_by(found: Tensor, motion: Tensor, std: Tensor) -> Tensor:
    """How far motion ``[B, f, 58]`` is off, in spreads squared, and how far its speed is.

    Squared, since a median would give up numbers that seldom move, such as the jaw's.
    """
    off = (found.float() - motion) / std
    return off.square().mean() + off.diff(dim=1).square().mean()


def prior_loss(
    prior: nn.Module, tokens: MotionTokens, batch: Batch, rng: np.random.Generator, device: torch.device
) -> Tensor:
    """Equation 3, errors counted as those of the velocity; what a driving head leaves no noise in does not count.

    Beside it stands how far the motion is off that the tokens decode to once the noise is taken away, as in motion
    diffusion (Tevet et al. 2023, their geometric losses): lips and their speed matter more than a token's numbers.
    """
    products: Tensor = cast(Any, scheduler_for_training()).alphas_cumprod
    t = torch.from_numpy(rng.integers(0, len(products), len(batch.motion)))
    a = products[t].view(-1, 1, 1, 1).to(device)
    with torch.no_grad():
        z = tokens.to(device).encode(batch.motion)  # type: ignore[arg-type]
    epsilon = progressive(torch.from_numpy(rng.standard_normal(tuple(z.shape), np.float32))).to(device)
    noisy = a.sqrt() * z + (1 - a).sqrt() * epsilon
    found = prior(noisy, t.to(device), batch.heard, batch.image, z[:, :, HEAD], batch.guided).float()
    given = torch.zeros_like(z, dtype=torch.bool)
    given[:, :, HEAD] = batch.guided[:, None, None]
    error = ((found - epsilon) ** 2 / a).masked_fill(given, 0.0).sum() / (~given).sum()
    clean = torch.where(given, z, (noisy - (1 - a).sqrt() * found) / a.sqrt())
    return error + MOTION * off_by(tokens.decode(clean), batch.motion, tokens.std)


def gather(dataset: Path, *splits: str) -> list[Example]:
    """All clips of the splits that last two seconds or more of frames that can teach."""
    rig, ear, examples = Rig.load(), Audio2BSDrive.load(), []
    for split in splits:
        for sample in Dataset(dataset, split):
            talk = talk_of(sample, rig)
            if talk.seen.sum() >= 50:
                heard = np.concatenate([*rows_of(ear, iter([sample.samples])), np.tile(SILENT, (len(sample), 1))])
                examples.append(Example(talk, heard[: len(sample)], sample.embedding))
    return examples


def run(
    settings: Settings, examples: Sequence[Example], work: Path, log: Callable[[str], None]
) -> tuple[MotionTokens, MotionPrior]:
    """Train both stages on the clips of split ``train``; ``val`` is looked at as training goes."""
    taught, rest = ([e for e in examples if e.talk.split == split] for split in ("train", "val"))
    need(len(taught), len(rest))
    torch.manual_seed(settings.encoding.seed)
    tokens = MotionTokens(**settings.tokens)
    prior = MotionPrior(**settings.prior, token=tokens.config["width"])
    ahead = int(prior.config["ahead"])
    windows, others = Windows(taught, settings, ahead), Windows(rest, settings, ahead)
    motions = windows.motions()
    tokens.mean.copy_(motions.mean(0))
    tokens.std.copy_(motions.std(0).clamp(min=LEAST_SPREAD))
    looks = [others(48, np.random.default_rng([1, i]), varied=False) for i in range(4)]
    log("stage tokens")

    def encode(wrapped: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        return token_loss(wrapped, windows(settings.batch, rng).motion.to(device))

    def encoded(mean: nn.Module, device: torch.device) -> float:
        with torch.inference_mode():
            return float(np.mean([float(token_loss(mean, look.motion.to(device))) for look in looks]))

    trained: Any = train(cast(nn.Module, tokens), encode, encoded, settings.encoding, work / "tokens", log,
                         settings=str(settings.tokens))  # fmt: skip
    tokens = trained.requires_grad_(False)
    log("stage prior")

    def denoise(wrapped: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        return prior_loss(wrapped, tokens, moved(windows(settings.batch, rng), device), rng, device)

    def denoised(mean: nn.Module, device: torch.device) -> float:
        with torch.inference_mode():
            found = [prior_loss(mean, tokens, moved(look, device), np.random.default_rng([2, i]), device)
                     for i, look in enumerate(looks)]  # fmt: skip
        return float(torch.stack(found).mean())

    made: Any = train(cast(nn.Module, prior), denoise, denoised, settings.denoising, work / "prior", log,
                      settings=str(settings))  # fmt: skip
    return tokens, made


def main() -> None:
    """Parse, gather, train, save."""
    stages = Settings().encoding.steps, Settings().denoising.steps
    parser = command_line(__doc__, sum(stages))
    parser.add_argument("--batch", type=int, default=Settings.batch)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share = options.steps / sum(stages)
    try:
        if share <= 0 or options.batch < 1:
            raise OptionError(f"steps are {options.steps} and the batch {options.batch}; expected 1 or more")
        plain = Settings()
        settings = replace(
            plain, batch=options.batch, encoding=plain.encoding.shorter(share, options.seed),
            denoising=plain.denoising.shorter(share, options.seed),
        )  # fmt: skip
        examples = gather(options.data, "train", "val")
        print(f"{len(examples)} clips, {', '.join(STREAMS)}", flush=True)
        networks = run(settings, examples, options.work, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    for network, name in zip(networks, ("tokens", "prior"), strict=True):
        cast(Any, network).half().save_pretrained(options.out / name)


if __name__ == "__main__":
    main()
