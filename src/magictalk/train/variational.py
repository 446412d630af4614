"""Train the variational motion generator (MAGIC-Talk, section 3.2, after GeneFace++): windows of 64 frames, Adam.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.variational --data out/dataset --work out/variational -o out/weights/variational

It learns deviations of key points of the rig's mean face, as clips move it, with what a person's face shows all the
time taken out. Beside the bound on the likelihood there are losses on motions that the prior draws, which are what a
drive makes: they must move like the real ones and belong to the sound in the lip-sync expert's eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.audio.features import MELS_PER_FRAME
from magictalk.audio.fronts import HUBERT, HubertFront, LogMelFront, load_hubert
from magictalk.data.dataset import Dataset
from magictalk.drive.audio2bs import OPENERS
from magictalk.drive.variational import (
    KEY_POINTS,
    LIPS,
    PARTS,
    PointFit,
    VariationalMotion,
)
from magictalk.errors import MagicTalkError
from magictalk.face.rig import Rig
from magictalk.sync import SyncExpert
from magictalk.train.loop import Schedule, command_line, train
from magictalk.train.sequences import Talk, balance, mirror, need, starts_of, talk_of

SHARES = {"people": 0.7, "generated": 0.15, "one": 0.15}
"""How much of training each kind of clip makes."""
LEAST_SPREAD = 2e-3
"""Inter-ocular distances: what moves less than this is not enlarged further."""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship."""

    frames: int = 64
    hidden: int = 96
    latent: int = 16
    dropout: float = 0.25
    batch: int = 24
    front: str = "log-mel"
    reconstruction_weight: float = 1.0
    divergence_weight: float = 0.3
    free: float = 0.05
    geometry_weight: float = 1.0
    likeliest_weight: float = 1.0
    likeness_weight: float = 0.5
    sync_weight: float = 0.2
    schedule: Schedule = field(default_factory=lambda: Schedule(2000, 1e-3, precision="no"))


@dataclass(frozen=True)
class Example:
    """A clip and what a front makes of its sound: float32 ``[T, features]``."""

    talk: Talk
    heard: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Windows: coefficients of ``PARTS [B, N, 38]`` over rest, rows ``[B, N, features]``, mel ``[B, 4 N, 80]``."""

    coefficients: Tensor
    rows: Tensor
    mel: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(part.to(device) for part in (self.coefficients, self.rows, self.mel)))


def resting(talk: Talk) -> NDArray[np.float32]:
    """What of ``PARTS`` a face shows all the time ``[38]``: medians. What parts the lips is always speech."""
    rest = np.median(talk.motion[talk.seen][:, list(PARTS)], 0)
    rest[:LIPS][OPENERS] = 0
    return rest.astype(np.float32)


class Windows:
    """Draws batches of windows from clips.

    Args:
        examples: clips.
        settings: of the run.
        usual: ``[38]``, the rest that everybody is brought to.
    """

    def __init__(self, examples: Sequence[Example], settings: Settings, usual: NDArray[np.float32]) -> None:
        self.settings = settings
        usable = [(e, starts_of(e.talk, settings.frames)) for e in examples]
        self._examples = [(e, starts, usual - resting(e.talk)) for e, starts in usable if len(starts)]
        talks = [e.talk for e, _, _ in self._examples]
        self._shares = balance([t.kind for t in talks], [len(t) for t in talks], SHARES)

    def __call__(self, count: int, rng: np.random.Generator) -> Batch:
        """``count`` windows."""
        parts = [self._one(int(i), rng) for i in rng.choice(len(self._examples), count, p=self._shares)]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True)))

    def _one(self, clip: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        example, starts, shift = self._examples[clip]
        start = int(rng.choice(starts))
        frames = slice(start, start + self.settings.frames)
        motion = example.talk.motion[frames].copy()
        motion[:, list(PARTS)] += shift
        if rng.random() < 0.5:
            motion = mirror(motion)
        mel = example.talk.mel[MELS_PER_FRAME * frames.start : MELS_PER_FRAME * frames.stop]
        return motion[:, list(PARTS)], veiled(example.heard[frames], rng), mel


def veiled(rows: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Rows as another microphone may give them: every number shifted a little, some gone, now and then a gap."""
    rows = rows + rng.normal(0, 0.15, rows.shape[1]) + rng.normal(0, 0.2)
    if rng.random() < 0.3:
        first = int(rng.integers(0, rows.shape[1]))
        rows[:, first : first + int(rng.integers(8, rows.shape[1] // 8 + 9))] = rows.mean()
    if rng.random() < 0.3:
        first = int(rng.integers(0, len(rows)))
        rows[first : first + int(rng.integers(1, 5))] = rows.mean()
    return rows.astype(np.float32)


class MotionLoss(nn.Module):
    """What a generator's deviations lack.

    Args:
        rig: the mean face.
        expert: the lip-sync expert; it is not trained.
        settings: weights of the parts.
        windows: of which spreads are taken.
        components: what tells how faces move, as :meth:`VariationalMotion.components`.
    """

    def __init__(
        self, rig: Rig, expert: SyncExpert, settings: Settings, windows: Windows,
        components: Callable[[Tensor], Tensor],
    ) -> None:  # fmt: skip
        super().__init__()
        self.settings, self._components = settings, components
        self._expert = expert.eval().requires_grad_(False)
        fit = PointFit(rig)
        place = {point: i for i, point in enumerate(KEY_POINTS)}
        self._pairs = [(place[a], place[b]) for a, b in ((13, 14), (61, 291), (1, 152))]
        self.shapes: Tensor
        self._linear: Tensor
        self._neutral: Tensor
        self._size: Tensor
        self._spread: Tensor
        self.register_buffer("shapes", torch.from_numpy(fit.shapes.copy()))
        self.register_buffer("_linear", torch.from_numpy(fit.linear))
        self.register_buffer("_neutral", torch.from_numpy(rig.neutral[list(KEY_POINTS)].copy()))
        real = self.deviations(windows(256, np.random.default_rng(0)).coefficients)
        self.register_buffer("_spread", real.flatten(0, 1).std(0).clamp(min=LEAST_SPREAD))
        self.register_buffer("_size", self.geometry(real).flatten(0, 1).std(0).clamp(min=1e-3))

    def deviations(self, coefficients: Tensor) -> Tensor:
        """``[B, N, K, 3]`` of coefficients ``[B, N, 38]``."""
        return torch.einsum("btk,kpd->btpd", coefficients, self.shapes)

    def geometry(self, deviations: Tensor) -> Tensor:
        """Gap, width and jaw drop ``[B, N, 3]`` of ``[B, N, K, 3]`` on the mean face."""
        mesh = self._neutral + deviations
        distances = [((mesh[..., a, :] - mesh[..., b, :]) ** 2).sum(-1) for a, b in self._pairs]
        return torch.sqrt(torch.stack(distances, -1) + 1e-6)

    def sync(self, deviations: Tensor, mel: Tensor) -> Tensor:
        """Binary cross entropy ``[B]`` of the expert's cosine similarity; coefficients by unbounded least squares."""
        lips = (deviations.flatten(2) @ self._linear)[..., :LIPS].clamp(0, 1)
        return nn.functional.softplus(-self._expert.logits(self._expert.similarity(lips, mel))).mean(1)

    def parts(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Each part on a batch, by a network that may be wrapped."""
        real = self.deviations(batch.coefficients)
        found, divergence, likeliest, drawn = network(batch.rows, real)
        ours, sure, wanted = (self.geometry(x) / self._size for x in (found, likeliest, real))
        off = (found - real) / self._spread
        near = 1 + 2 * torch.exp(-wanted[..., :1] * self._size[0] / 0.02)  # a closure missed is seen at once
        return {
            "reconstruction": off.abs().mean() + off.diff(dim=1).abs().mean(),
            # free bits (Kingma et al. 2016, appendix C.8): what little a number tells costs nothing
            "divergence": divergence.mean((0, 2)).clamp(min=self.settings.free).mean(),
            "geometry": ((ours - wanted).abs() * near).mean() + (ours - wanted).diff(dim=1).abs().mean(),
            "likeliest": _apart(sure, wanted),
            "likeness": _unlike(self._components(drawn), self._components(real)),
            # more in time than real lips is nothing but what fools the expert
            "sync": (self.sync(likeliest, batch.mel) - self.sync(real, batch.mel)).relu().mean(),
        }

    def weigh(self, parts: dict[str, Tensor]) -> Tensor:
        """The sum of the parts by their weights."""
        return torch.stack([getattr(self.settings, f"{name}_weight") * value for name, value in parts.items()]).sum()

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        """The loss of a network on a batch."""
        return self.weigh(self.parts(network, batch))


def _apart(ours: Tensor, real: Tensor) -> Tensor:
    """How little geometry ``[B, N, 3]`` goes with real one, 0..2, wherever it lies and however large it is."""
    p, q = ours - ours.mean(1, keepdim=True), real - real.mean(1, keepdim=True)
    r = (p * q).sum(1) / torch.sqrt(((p**2).sum(1) + 1e-2) * ((q**2).sum(1) + 1e-2))
    return (1 - r).mean()


def _unlike(ours: Tensor, real: Tensor) -> Tensor:
    """How far drawn components ``[B, N, C]`` are off real ones in their means, their ranges and their speeds."""

    def sizes(x: Tensor) -> Tensor:
        ranges, speeds = x - x.mean(1, keepdim=True), x.diff(dim=1)
        return torch.stack([torch.log(part.abs().mean((0, 1)) + 1e-3) for part in (ranges, speeds)])

    return (ours.mean((0, 1)) - real.mean((0, 1))).abs().mean() + (sizes(ours) - sizes(real)).abs().mean()


def hear(front: str, samples: NDArray[np.float32], frames: int, hubert: Any = None) -> NDArray[np.float32]:
    """What a front makes of a clip's sound ``[N]``: ``[frames, features]``."""
    ear = HubertFront(hubert) if front == "hubert" else LogMelFront()
    rows = np.concatenate([ear.push(samples), ear.finish()])[:frames]
    return np.concatenate([rows, np.tile(ear.silence, (frames - len(rows), 1))])


def gather(dataset: Path, front: str, hubert: Any, *splits: str) -> list[Example]:
    """All clips of the splits that last two seconds or more of frames that can teach, heard by a front."""
    rig, examples = Rig.load(), []
    for split in splits:
        for sample in Dataset(dataset, split):
            talk = talk_of(sample, rig)
            if talk.seen.sum() >= 50:
                examples.append(Example(talk, hear(front, sample.samples, len(sample), hubert)))
    return examples


def fresh(settings: Settings, examples: Sequence[Example], windows: Windows) -> VariationalMotion:
    """A network before training, with the mean and the principal directions of what it will be shown."""
    torch.manual_seed(settings.schedule.seed)
    network = VariationalMotion(
        front=settings.front,  # type: ignore[arg-type]
        features=examples[0].heard.shape[1], hidden=settings.hidden, latent=settings.latent, dropout=settings.dropout,
    )  # fmt: skip
    coefficients = windows(500, np.random.default_rng(0)).coefficients.flatten(0, 1)
    deviations = torch.einsum("tk,kpd->tpd", coefficients, torch.from_numpy(PointFit(Rig.load()).shapes))
    network.mean.copy_(deviations.mean(0))
    centred = (deviations - network.mean).flatten(1)
    sizes, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    count = len(network.basis)
    principal = directions[:, -count:] * sizes[-count:].clamp(min=LEAST_SPREAD**2).sqrt()
    network.basis.copy_(principal.T.unflatten(1, tuple(network.mean.shape)))
    return network


def usual_rest(examples: Sequence[Example]) -> NDArray[np.float32]:
    """The rest ``[38]`` of somebody between all people: of the lips alone, other parts rest at zero."""
    people = [e for e in examples if e.talk.kind == "people"] or list(examples)
    rest = np.median(np.stack([resting(e.talk) for e in people]), 0)
    rest[LIPS:] = 0
    return rest.astype(np.float32)


def run(
    settings: Settings, examples: Sequence[Example], expert: SyncExpert, work: Path, log: Callable[[str], None],
    until: int | None = None,
) -> VariationalMotion:  # fmt: skip
    """Train on the clips of split ``train``; ``val`` is looked at as training goes."""
    taught, rest = ([e for e in examples if e.talk.split == split] for split in ("train", "val"))
    need(len(taught), len(rest))
    usual = usual_rest(taught)
    windows, held_windows = Windows(taught, settings, usual), Windows(rest, settings, usual)
    network = fresh(settings, taught, windows)
    loss = MotionLoss(Rig.load(), expert, settings, windows, network.components)
    looks = [held_windows(48, np.random.default_rng([1, i])) for i in range(4)]

    def step(wrapped: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        return cast(Tensor, loss.to(device)(wrapped, windows(settings.batch, rng).to(device)))

    def held(mean: nn.Module, device: torch.device) -> float:
        torch.manual_seed(0)
        with torch.inference_mode():
            parts = [loss.parts(mean, look.to(device)) for look in looks]
        log("  val: " + ", ".join(f"{name} {np.mean([float(p[name]) for p in parts]):.3f}" for name in parts[0]))
        return float(np.mean([float(loss.weigh(part)) for part in parts]))

    trained = train(cast(nn.Module, network), step, held, settings.schedule, work, log, until, str(settings))
    assert isinstance(trained, VariationalMotion)
    return trained


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, Settings().schedule.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--hidden", type=int, default=Settings.hidden, help="width of all convolutions")
    parser.add_argument("--front", choices=("log-mel", "hubert"), default="log-mel", help="what hears the sound")
    parser.add_argument("--hubert", default=HUBERT, metavar="FOLDER", help="HuBERT's folder or hub id")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    schedule = Schedule(options.steps, Settings().schedule.rate, seed=options.seed, precision="no")
    settings = Settings(hidden=options.hidden, batch=options.batch, front=options.front, schedule=schedule)
    try:
        hubert = load_hubert(options.hubert) if options.front == "hubert" else None
        examples = gather(options.data, options.front, hubert, "train", "val")
        expert = weights.load(SyncExpert, "sync")
        network = run(settings, examples, expert, options.work, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    network.half().save_pretrained(options.out)


if __name__ == "__main__":
    main()
