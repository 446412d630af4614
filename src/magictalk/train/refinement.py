"""Train the lip refinement's residue (MagicTalk, sections 3.3 and 4.1): batches of 32, Adam.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.refinement --data out/dataset --work out/lips -o out/weights/lips

Audio2BS stays as it is. The residue learns what real lips add to it, from faces of the same person at other moments,
with expressions laid over both (see :mod:`magictalk.train.emodiff`). The lip-sync expert is the discriminator: refined
lips must belong to the sound in its eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.features import MELS_PER_FRAME
from magictalk.data.dataset import Dataset
from magictalk.drive.audio2bs import LIPS, Audio2BSDrive, Heard
from magictalk.drive.lips import AFTER, BEFORE, REFERENCE_FRAMES, WINDOW, EmotionalResidue
from magictalk.errors import MagicTalkError
from magictalk.face.rig import Rig
from magictalk.style import lay_over
from magictalk.sync import SyncExpert
from magictalk.train.emodiff import any_expression, path_of
from magictalk.train.lips import LipShape
from magictalk.train.loop import Schedule, command_line, train
from magictalk.train.sequences import Talk, balance, need, talk_of

SHARES = {"people": 0.6, "generated": 0.25, "one": 0.15}
"""How much of training each kind of clip makes."""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship."""

    frames: int = 24
    hidden: int = 128
    batch: int = 32
    expressive: float = 0.8
    coefficients_weight: float = 1.0
    geometry_weight: float = 1.0
    correlation_weight: float = 1.0
    sync_weight: float = 0.3
    schedule: Schedule = field(default_factory=lambda: Schedule(800, 1e-3, precision="no"))


@dataclass(frozen=True)
class Example:
    """A clip, and what Audio2BS makes of its sound."""

    talk: Talk
    heard: Heard


@dataclass(frozen=True)
class Batch:
    """Crops of ``L`` frames.

    Attributes:
        neutral: ``[B, L + 7, 29]``, Audio2BS.
        mel: ``[B, 4 (L + 7), 80]``.
        emotion: ``[B, L, 8, 52]``, the person at other moments, with the expression of each frame.
        lips: ``[B, L, 29]``, what is wanted.
        sound: ``[B, 4 L, 80]``, which the expert hears: ``L - 4`` windows of it.
    """

    neutral: Tensor
    mel: Tensor
    emotion: Tensor
    lips: Tensor
    sound: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(part.to(device) for part in (self.neutral, self.mel, self.emotion, self.lips, self.sound)))


class Crops:
    """Draws batches of crops from clips.

    Args:
        examples: clips.
        settings: of the run.
    """

    def __init__(self, examples: Sequence[Example], settings: Settings) -> None:
        self.settings = settings
        chosen = [(e, _starts(e, settings.frames)) for e in examples]
        self._examples = [(e, starts) for e, starts in chosen if len(starts)]
        talks = [e.talk for e, _ in self._examples]
        self._shares = balance([t.kind for t in talks], [len(t) for t in talks], SHARES)

    def __call__(self, count: int, rng: np.random.Generator) -> Batch:
        """``count`` crops."""
        rows = [
            self._one(self._examples[i][0], self._examples[i][1], rng)
            for i in rng.choice(len(self._examples), count, p=self._shares)
        ]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True)))

    def _one(
        self, example: Example, starts: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], ...]:
        n, talk = self.settings.frames, example.talk
        start = int(rng.choice(starts))
        chosen = np.sort(rng.choice(np.flatnonzero(talk.seen), REFERENCE_FRAMES))
        wide = slice(start - BEFORE, start + n + AFTER)
        mel = talk.mel[MELS_PER_FRAME * wide.start : MELS_PER_FRAME * wide.stop]
        sound = mel[MELS_PER_FRAME * BEFORE : MELS_PER_FRAME * (BEFORE + n)]
        neutral = example.heard.lips[wide]
        window, faces = talk.motion[start : start + n], talk.motion[chosen]
        over = np.zeros((n, 52), np.float32)
        if rng.random() < self.settings.expressive:
            first, last = (any_expression(rng)[0] for _ in range(2))
            last = last if rng.random() < 0.3 else first
            over = path_of(first, last, n, int(rng.integers(-10, n)), 20, rng)
        lips = lay_over(window[:, :52], over, talk.closure[start : start + n])[:, list(LIPS)]
        emotion = lay_over(faces[None, :, :52], over[:, None])
        return neutral, mel, emotion, lips, sound


def _starts(example: Example, frames: int) -> NDArray[np.int64]:
    """Where a crop begins that has frames around it, and only such that can teach."""
    talk = example.talk
    if len(talk) < frames + WINDOW:
        return np.zeros(0, np.int64)
    good = np.lib.stride_tricks.sliding_window_view(talk.seen, frames).all(1)
    good[:BEFORE] = False
    good[len(talk) - frames - AFTER + 1 :] = False
    return np.flatnonzero(good)


class RefinementLoss(LipShape):
    """How far refined lips are from real ones, and how little they belong to the sound.

    Args:
        expert: the discriminator; it is not trained.
        rig: the mean face, on which lips are measured.
        settings: weights of the parts.
        spread: ``[29]``, of the coefficients that are wanted.
    """

    def __init__(self, expert: SyncExpert, rig: Rig, settings: Settings, spread: NDArray[np.float32]) -> None:
        super().__init__(rig)
        self.settings = settings
        self._expert = expert.eval().requires_grad_(False)
        self._spread: Tensor
        self.register_buffer("_spread", torch.from_numpy(np.maximum(spread, 0.02)))

    def sync(self, lips: Tensor, sound: Tensor) -> Tensor:
        """L_sync: binary cross entropy of the expert's cosine similarity, all pairs belonging together."""
        return nn.functional.softplus(-self._expert.logits(self._expert.similarity(lips, sound))).mean()

    def parts(self, refined: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Each part on lips ``[B, L, 29]``."""
        coefficients = ((refined - batch.lips) / self._spread).abs().mean()
        ours, real = (self.geometry(self.mesh(lips)) for lips in (refined, batch.lips))
        scale = real.flatten(0, 1).std(0).clamp(min=1e-3)
        near = 1 + 2 * torch.exp(-real[..., :1] / 0.02)  # a closure missed is seen at once
        place = (((ours - real) / scale).abs() * near).mean()
        speed = ((ours.diff(dim=1) - real.diff(dim=1)) / scale).abs().mean()
        p, q = ours - ours.mean(1, keepdim=True), real - real.mean(1, keepdim=True)
        r = (p * q).sum(1) / torch.sqrt(((p**2).sum(1) + 1e-5) * ((q**2).sum(1) + 1e-5))
        # regression to what sound cannot tell makes mumblers: the spread over a crop counts for itself
        mumble = (torch.log(p.std(1) + 0.01) - torch.log(q.std(1) + 0.01)).abs().mean()
        return {
            "coefficients": coefficients,
            "geometry": place + speed + 0.5 * mumble,
            "correlation": (1 - r).mean(),
            "sync": self.sync(refined, batch.sound),
        }

    def weigh(self, parts: dict[str, Tensor]) -> Tensor:
        """The sum of the parts by their weights."""
        return torch.stack([getattr(self.settings, f"{name}_weight") * value for name, value in parts.items()]).sum()

    def forward(self, refined: Tensor, batch: Batch) -> Tensor:
        """The loss of lips ``[B, L, 29]``."""
        return self.weigh(self.parts(refined, batch))


def gather(dataset: Path, drive: Audio2BSDrive, *splits: str) -> list[Example]:
    """All clips of the splits, heard by Audio2BS as it hears when it drives."""
    rig, examples = Rig.load(), []
    for split in splits:
        for sample in Dataset(dataset, split):
            talk = talk_of(sample, rig)
            parts = list(drive.hear(iter([sample.samples])))
            heard = Heard(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("lips", "speaking", "mel")))
            examples.append(Example(talk, heard))
    return examples


def run(
    settings: Settings, examples: Sequence[Example], expert: SyncExpert, work: Path, log: Callable[[str], None],
    until: int | None = None,
) -> EmotionalResidue:  # fmt: skip
    """Train on the clips of split ``train``; ``val`` is looked at as training goes."""
    taught, rest = ([e for e in examples if e.talk.split == split] for split in ("train", "val"))
    need(len(taught), len(rest))
    crops, held_crops = Crops(taught, settings), Crops(rest, settings)
    torch.manual_seed(settings.schedule.seed)
    network = EmotionalResidue(hidden=settings.hidden)
    wanted = crops(64, np.random.default_rng(0)).lips
    loss = RefinementLoss(expert, Rig.load(), settings, wanted.flatten(0, 1).std(0).numpy())
    looks = [held_crops(64, np.random.default_rng([1, i])) for i in range(4)]

    def step(wrapped: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        loss.to(device)
        batch = crops(settings.batch, rng).to(device)
        now = batch.neutral[:, BEFORE : BEFORE + settings.frames]
        return loss((now + wrapped(batch.neutral, batch.mel, batch.emotion)).clamp(0, 1), batch)

    def held(mean: nn.Module, device: torch.device) -> float:
        assert isinstance(mean, EmotionalResidue)
        with torch.inference_mode():
            batches = [look.to(device) for look in looks]
            parts = [loss.parts(mean.refine(b.neutral, b.mel, b.emotion), b) for b in batches]
            plain = [loss.parts(b.neutral[:, BEFORE : BEFORE + settings.frames], b) for b in batches]
        for name, values in (("refined", parts), ("Audio2BS", plain)):
            log(f"  val, {name}: " + ", ".join(f"{k} {np.mean([float(p[k]) for p in values]):.3f}" for k in parts[0]))
        return float(np.mean([float(loss.weigh(part)) for part in parts]))

    trained = train(cast(nn.Module, network), step, held, settings.schedule, work, log, until, str(settings))
    assert isinstance(trained, EmotionalResidue)
    return trained


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, Settings().schedule.steps)
    parser.add_argument("--rate", type=float, default=Settings().schedule.rate)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = Settings(schedule=Schedule(options.steps, options.rate, seed=options.seed, precision="no"))
    try:
        examples = gather(options.data, Audio2BSDrive.load(), "train", "val")
        expert = weights.load(SyncExpert, "sync")
        network = run(settings, examples, expert, options.work, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    network.half().save_pretrained(options.out)


if __name__ == "__main__":
    main()
