"""Train EmoDiff (MagicTalk, sections 3.2 and 4.1): 32-frame windows, batches of 64, Adam at 4e-4.

    magictalk data build ../shared/data/videos -o out/dataset
    python -m magictalk.train.emodiff --data out/dataset --work out/emodiff -o out/weights/emodiff

Talking videos with strong emotions in them cannot be had freely. So the clips teach how people talk, blink and move,
and expressions are laid over them: EMFACS emotions and random action units, each as one person may show it, coming
and going. Style frames carry the same expression as the window does, so what the network learns is the paper's task:
to keep the style of three frames while it talks.
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

from magictalk.audio.features import MELS_PER_FRAME
from magictalk.drive.emodiff import (
    BANK_FRAMES,
    STYLE_FRAMES,
    VALUES,
    EmoDiff,
    positional_condition,
    scheduler_for_training,
)
from magictalk.errors import MagicTalkError
from magictalk.motion import ARKIT
from magictalk.style import ACTION_UNITS, EMOTIONS, lay_over, lopsided, units, variant
from magictalk.train.loop import Schedule, command_line, train
from magictalk.train.sequences import Talk, balance, gather, mirror, need, starts_of

LEAST_SPREAD = 0.01
"""Of a value, a direction or a frequency: what moves less than this is not enlarged further."""
SHARES = {"people": 0.72, "generated": 0.13, "one": 0.15}
"""How much of training each kind of clip makes."""


@dataclass(frozen=True)
class Settings:
    """What a run can change; the defaults trained the weights that ship."""

    frames: int = 32
    hidden: int = 192
    layers: int = 3
    dropout: float = 0.1
    batch: int = 64
    dropped: float = 0.1
    expressive: float = 0.6
    changing: float = 0.3
    style: str = "positional"
    start: bool = True
    schedule: Schedule = field(default_factory=lambda: Schedule(5000, 4e-4))


@dataclass(frozen=True)
class Batch:
    """Windows: motion ``[B, N, 58]``, mel ``[B, 4 N, 80]``, style ``[B, 3, 58]``, emotion ``[B]``.

    ``emotion`` is the label's place in ``EMOTIONS``; 0 too where an expression has no name.
    """

    motion: NDArray[np.float32]
    mel: NDArray[np.float32]
    style: NDArray[np.float32]
    emotion: NDArray[np.int64]


def any_expression(rng: np.random.Generator) -> tuple[NDArray[np.float32], int]:
    """An expression ``[52]`` and the place of its emotion: a named one, or a few action units of none (0)."""
    if rng.random() < 0.6:
        label = int(rng.integers(1, len(EMOTIONS)))
        strength = float(rng.uniform(0.2, 1.3))
        return (strength * variant(EMOTIONS[label], rng)).clip(0, 1), label
    known = [unit for unit in ACTION_UNITS if unit not in ("26", "43")]
    chosen = rng.choice(known, size=int(rng.integers(1, 5)), replace=False)
    return lopsided(units({unit: float(rng.uniform(0.1, 1.0)) for unit in chosen}), rng), 0


def path_of(
    first: NDArray[np.float32], last: NDArray[np.float32], frames: int, begin: int, lasting: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:  # fmt: skip
    """An expression ``[frames, 52]`` that goes from one to another in ``lasting`` frames, and is never quite still."""
    share = ((np.arange(frames) - begin) / lasting).clip(0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    phase, cycles = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5) * frames / 25
    living = 1 + 0.12 * np.sin(phase + 2 * np.pi * cycles * np.arange(frames) / frames)[:, None]
    return (((1 - share) * first + share * last) * living).clip(0, 1).astype(np.float32)


class Windows:
    """Draws batches of windows from clips.

    Args:
        talks: clips.
        settings: of the run.
    """

    def __init__(self, talks: Sequence[Talk], settings: Settings) -> None:
        self.settings = settings
        self._talks = [(talk, starts_of(talk, settings.frames)) for talk in talks]
        self._talks = [(talk, starts) for talk, starts in self._talks if len(starts)]
        kinds, lengths = [t.kind for t, _ in self._talks], [len(t) for t, _ in self._talks]
        self._shares = balance(kinds, lengths, SHARES)

    def __call__(self, count: int, rng: np.random.Generator) -> Batch:
        """``count`` windows."""
        rows = [
            self._one(self._talks[i][0], self._talks[i][1], rng)
            for i in rng.choice(len(self._talks), count, p=self._shares)
        ]
        motion, mel, style, emotion = zip(*rows, strict=True)
        return Batch(np.stack(motion), np.stack(mel), np.stack(style), np.array(emotion))

    def _one(self, talk: Talk, starts: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        n = self.settings.frames
        start = int(rng.choice(starts))
        chosen = rng.choice(np.flatnonzero(talk.seen), STYLE_FRAMES)
        window, style = talk.motion[start : start + n], talk.motion[chosen]
        mel = _veiled(talk.mel[MELS_PER_FRAME * start : MELS_PER_FRAME * (start + n)], rng)
        closure, style_closure = talk.closure[start : start + n], talk.closure[chosen]
        emotion = 0
        if rng.random() < self.settings.expressive:
            face, emotion = any_expression(rng)
            before = face
            if rng.random() < self.settings.changing:
                before = any_expression(rng)[0] * (rng.random() < 0.5)
            over = path_of(before, face, n, int(rng.integers(-12, 8)), int(rng.integers(12, 26)), rng)
            window = _under(window, over, closure)
            strength = rng.uniform(0.9, 1.1, (STYLE_FRAMES, 1)).astype(np.float32)
            style = _under(style, (face * strength).clip(0, 1), style_closure)
        if rng.random() < 0.5:
            window, style = mirror(window), mirror(style)
        return window, mel, style, np.array(emotion)


def _under(motion: NDArray[np.float32], over: NDArray[np.float32], closure: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([lay_over(motion[:, :52], over, closure), motion[:, 52:]], 1)


def _veiled(mel: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Sound as another microphone hears it: a tilt over the bands, a few of them gone, now and then a gap."""
    mel = mel + rng.normal(0, 0.2) + rng.normal(0, 0.2) * np.linspace(-1, 1, mel.shape[1], dtype=np.float32)
    if rng.random() < 0.3:
        band = int(rng.integers(0, mel.shape[1] - 12))
        mel[:, band : band + int(rng.integers(2, 12))] = mel.mean()
    return mel.astype(np.float32)


def condition_of(network: EmoDiff, batch: Batch) -> Tensor:
    """The condition ``[B, N, 59 (+ 8)]`` that a network's settings ask for, of normalised motion."""
    n, kind = network.config["frames"], network.config["style"]
    motion, style = (network.describe(torch.from_numpy(x).to(network.mean)) for x in (batch.motion, batch.style))
    c = positional_condition(
        n, motion[:, 0] if network.config["start"] else None, style if kind == "positional" else None, like=motion
    )
    if kind == "label":
        code = nn.functional.one_hot(torch.from_numpy(batch.emotion), len(EMOTIONS)).to(c)
        c = torch.cat([c, code[:, None].expand(-1, n, -1)], -1)
    return c


def diffusion_loss(
    network: nn.Module, plain: EmoDiff, batch: Batch, dropped: float, device: torch.device, scheduler: object
) -> Tensor:
    """Equation 4 on a batch, each condition dropped with a probability (equation 5).

    Unlike the paper's, errors count by how much they matter to the motion: at a step by 1 over alpha's product, so that
    no noise level is left untaught, and both as whitened values and as motion.
    """
    clean = plain.normalise(torch.from_numpy(batch.motion).to(device))
    noise = torch.randn_like(clean)
    t = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),), device=device)  # type: ignore[attr-defined]
    noisy = scheduler.add_noise(clean, noise, t)  # type: ignore[attr-defined]  # equation 1
    empty = torch.rand(len(clean), device=device) < dropped
    found = network(noisy, t, condition_of(plain, batch).to(device), torch.from_numpy(batch.mel).to(device), empty)
    missed = found.float() - noise
    moved = plain.coloured(missed)
    error = (missed**2).mean((1, 2)) + (moved**2).mean((1, 2))
    if plain.config["start"]:  # windows are joined there, so an error in the first frame shows
        error = error + (moved[:, 0] ** 2).mean(1)
    return (error / plain.kept[t]).mean()


def whiten(network: EmoDiff, windows: Windows) -> None:
    """Teach a network the mean and spread of what training shows, and how its values go together at each frequency."""
    motion = torch.from_numpy(windows(6000, np.random.default_rng(0)).motion)
    rows = motion.flatten(0, 1)
    network.mean.copy_(rows.mean(0))
    network.std.copy_(rows.std(0).clamp(min=LEAST_SPREAD))
    waves = network.waves @ network.describe(motion)  # [B, N, 58]
    # people mostly move little and now and then a lot: mean sizes, not root mean squares, give noise the usual speed
    usual = (waves.abs().mean(0) * (np.pi / 2) ** 0.5).clamp(min=LEAST_SPREAD)
    for k in range(len(usual)):
        together = torch.corrcoef(waves[:, k].T).nan_to_num() + LEAST_SPREAD * torch.eye(VALUES)
        sizes, directions = torch.linalg.eigh(together * usual[k] * usual[k][:, None])
        network.colours[k] = directions * sizes.clamp(min=LEAST_SPREAD**2).sqrt() @ directions.T


def bank_of(talks: Sequence[Talk], groups: int) -> NDArray[np.float32]:
    """Talking faces ``[groups, 8, 58]`` of real people, each group of one person, brought to one neutral expression.

    What a person's face shows all the time is taken out (the median over a clip) and what is usual is put in.
    """
    people = [talk for talk in talks if talk.kind == "people"] or list(talks)
    rng = np.random.default_rng(0)
    usual = np.median(np.stack([np.median(talk.motion[talk.seen], 0) for talk in people]), 0)
    usual[52:] = 0
    rows = []
    for i in rng.permutation(len(people))[:groups] if len(people) >= groups else rng.choice(len(people), groups):
        talk = people[i]
        known = np.flatnonzero(talk.seen & (talk.motion[:, ARKIT.index("eyeBlinkLeft")] < 0.3))
        frames = talk.motion[np.sort(rng.choice(known, BANK_FRAMES, replace=len(known) < BANK_FRAMES))]
        moved = frames - np.median(talk.motion[talk.seen], 0) + usual
        moved[:, :52] = moved[:, :52].clip(0, 1)
        rows.append(moved)
    return np.stack(rows).astype(np.float32)


def fresh(settings: Settings, taught: Sequence[Talk], windows: Windows) -> EmoDiff:
    """A network before training, with what it must know of the clips."""
    torch.manual_seed(settings.schedule.seed)
    network = EmoDiff(
        frames=settings.frames, hidden=settings.hidden, layers=settings.layers, dropout=settings.dropout,
        style=settings.style, start=settings.start,  # type: ignore[arg-type]
    )  # fmt: skip
    whiten(network, windows)
    network.talking.copy_(torch.from_numpy(bank_of(taught, len(network.talking))))
    return network


def run(
    settings: Settings, talks: Sequence[Talk], work: Path, log: Callable[[str], None], until: int | None = None
) -> EmoDiff:
    """Train on the clips of split ``train``; ``val`` is looked at as training goes."""
    taught, rest = ([t for t in talks if t.split == split] for split in ("train", "val"))
    need(len(taught), len(rest))
    windows, held_windows = Windows(taught, settings), Windows(rest, settings)
    network = fresh(settings, taught, windows)
    scheduler = scheduler_for_training()
    looks = [held_windows(128, np.random.default_rng([1, i])) for i in range(4)]

    def loss(wrapped: nn.Module, rng: np.random.Generator, device: torch.device) -> Tensor:
        return diffusion_loss(wrapped, network, windows(settings.batch, rng), settings.dropped, device, scheduler)

    def held(mean: nn.Module, device: torch.device) -> float:
        torch.manual_seed(0)
        assert isinstance(mean, EmoDiff)
        with torch.inference_mode():
            return float(np.mean([diffusion_loss(mean, mean, b, 0.0, device, scheduler).item() for b in looks]))

    trained = train(cast(nn.Module, network), loss, held, settings.schedule, work, log, until, str(settings))
    assert isinstance(trained, EmoDiff)
    return trained


def main() -> None:
    """Parse, gather, train, save."""
    parser = command_line(__doc__, Settings().schedule.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--hidden", type=int, default=Settings.hidden, help="width of the transformer")
    parser.add_argument("--layers", type=int, default=Settings.layers)
    parser.add_argument("--style", choices=("positional", "label", "none"), default="positional")
    parser.add_argument("--no-start", action="store_true", help="without the initial state (ablation)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    schedule = Schedule(options.steps, 4e-4, seed=options.seed)
    settings = Settings(
        hidden=options.hidden, layers=options.layers, batch=options.batch, style=options.style,
        start=not options.no_start, schedule=schedule,
    )  # fmt: skip
    try:
        talks = gather(options.data, "train", "val")
        network = run(settings, talks, options.work, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")
    network.half().save_pretrained(options.out)


if __name__ == "__main__":
    main()
