"""Train the lip-sync expert: coefficients first, the clips aligned by it in between, then mouth pictures.

    python -m magictalk.train.sync --data DATASET -o out/sync

Only the dataset's ``train`` split teaches; ``val`` is scored as training goes. The encoder of pictures sees videos of
licences that allow it; coefficients are motion, and all clips teach them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from magictalk.audio.features import MELS_PER_FRAME, SAMPLE_RATE, SILENCE
from magictalk.data.augment import mask, spoil, stretch
from magictalk.data.dataset import Dataset
from magictalk.errors import DatasetError, MagicTalkError
from magictalk.face.landmarks import FaceDetector
from magictalk.motion import ARKIT, FPS
from magictalk.sync import HEARD, LIPS, MAX_LAG, Sync, SyncExpert, SyncJudge, compare, hear, hold_ends, mouth_crops
from magictalk.train.crops import fit
from magictalk.train.mouths import render_mouths, spoil_pictures

PICTURES = ("open", "noncommercial")
"""Licence classes whose pixels may teach."""
MAX_MOVE_S = 0.32
"""A larger offset between sound and picture says that they do not belong together."""
MOST_OF_ONE = 0.15
"""The largest share of training that one person makes."""
RENDERED_FRAMES = 150
"""How much of a clip's motion is rendered on another's face."""
FRAME_SAMPLES = int(SAMPLE_RATE / FPS)
Face = tuple[NDArray[np.uint8], NDArray[np.float32], str]
"""A picture, its mesh in pixels, its licence."""


@dataclass(frozen=True)
class Clip:
    """A clip made ready.

    Attributes:
        key: its name.
        identity: who is seen.
        licence: class, such as ``"open"``.
        coefficients: float32 ``[T, 29]``, the lips.
        crops: uint8 ``[T, 64, 80]``, mouth pictures, or None.
        samples: float32 ``[N]`` at 16 kHz.
        seen: bool ``[T]``, where the face was tracked.
        offset_s: the mouth at t matches the sound at t + this.
    """

    key: str
    identity: str
    licence: str
    coefficients: NDArray[np.float32]
    crops: NDArray[np.uint8] | None
    samples: NDArray[np.float32]
    seen: NDArray[np.bool_]
    offset_s: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What a run can change."""

    network: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 2
    align_steps: int = 500
    steps: int = 1200
    picture_steps: int = 1500
    batch: int = 16
    picture_batch: int = 6
    frames: int = 50
    variants: int = 3
    telling: float = 2.0
    rate: float = 2e-3
    weight_decay: float = 3e-2
    seed: int = 0


def shares(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """How often each clip is drawn: by its length, but no one person more than ``MOST_OF_ONE``."""
    lengths = np.array([len(c.coefficients) for c in clips], np.float64)
    people = np.array([c.identity for c in clips])
    for _ in range(8):  # what is taken from one goes to all
        lengths /= lengths.sum()
        for person in set(people):
            total = lengths[people == person].sum()
            if total > MOST_OF_ONE:
                lengths[people == person] *= MOST_OF_ONE / total
    return lengths / lengths.sum()


def mirrored() -> list[int]:
    """Places in ``LIPS`` after left and right are exchanged."""
    names = [ARKIT[i] for i in LIPS]
    swap = {"Left": "Right", "Right": "Left"}
    return [
        names.index(next((n[: -len(a)] + b for a, b in swap.items() if n.endswith(a)), n)) for n in names
    ]  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A clip at another speed and with another sound.

    Attributes:
        mel: float32 ``[4 T + 16, 80]``, see :func:`magictalk.sync.hear`.
        lips: float32 ``[T, 29]``.
        frames: int64 ``[T]``, which of the clip's frames each is.
        seen: bool ``[T]``, where both the mouth is seen and the sound heard.
    """

    mel: NDArray[np.float32]
    lips: NDArray[np.float32]
    frames: NDArray[np.int64]
    seen: NDArray[np.bool_]


def vary(
    clip: Clip, speed: float, spoiled: bool, rng: np.random.Generator, voices: Sequence[NDArray[np.float32]]
) -> Variant:
    """A clip with its sound moved to its picture, played ``speed`` times as fast, the sound spoiled or not."""
    total = len(clip.coefficients)
    frames = int(total / speed)
    shift = round(clip.offset_s * SAMPLE_RATE)
    sound = np.concatenate([np.zeros(max(0, -shift), np.float32), clip.samples[max(0, shift) :]])
    sound = stretch(sound, speed, int(len(sound) / speed))
    if spoiled:
        sound = spoil(sound, rng, voices)
    place = np.minimum(np.arange(frames) * speed, total - 1)
    nearest = np.round(place).astype(np.int64)
    heard = place / FPS + clip.offset_s
    seen = clip.seen[nearest] & (heard >= 0) & (heard < len(clip.samples) / SAMPLE_RATE)
    return Variant(hear(sound, frames), stretch(clip.coefficients, speed, frames), nearest, seen)


class Excerpts:
    """Batches of excerpts of clips, each clip spoiled and played at other speeds a few times over."""

    def __init__(self, clips: Sequence[Clip], settings: Settings, rng: np.random.Generator) -> None:
        voices = [c.samples for c in clips]
        self._clips, self._length, self._rng = clips, settings.frames, rng
        self._chance = shares(clips)
        self._variants = [
            [vary(c, float(rng.uniform(0.88, 1.15)), True, rng, voices) for _ in range(settings.variants)]
            + [vary(c, 1.0, False, rng, voices)]
            for c in clips
        ]

    def __call__(self, batch: int) -> tuple[Tensor, Tensor, Tensor, list[NDArray[np.uint8]]]:
        """Sound ``[B, 4 T + 16, 80]``, lips ``[B, T, 29]``, where they hold ``[B, T]``, and pictures ``[T, 64, 80]``.

        The pictures' list is empty where a clip has none.
        """
        chosen = self._rng.choice(len(self._clips), batch, p=self._chance)
        sounds, lips, seen, pictures = zip(*(self._cut(i) for i in chosen), strict=True)
        mel, mouth, where = (torch.from_numpy(np.stack(part)) for part in (sounds, lips, seen))
        return mel, mouth, where, [p for p in pictures if p is not None]

    def _cut(
        self, index: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8] | None]:
        rng, length, clip = self._rng, self._length, self._clips[index]
        variants = self._variants[index]
        v = variants[rng.integers(len(variants))]
        start = int(rng.integers(0, max(1, len(v.lips) - length + 1)))
        end = start + length
        sound = v.mel[start * MELS_PER_FRAME : end * MELS_PER_FRAME + HEARD - MELS_PER_FRAME]
        sound = mask(fit(sound, length * MELS_PER_FRAME + HEARD - MELS_PER_FRAME, SILENCE), rng)
        pictures = (
            None
            if clip.crops is None
            else spoil_pictures(clip.crops[v.frames[np.minimum(np.arange(start, end), len(v.frames) - 1)]], rng)
        )
        seen = np.pad(v.seen[start:end], (0, max(0, end - len(v.seen))))
        return sound, fit(v.lips[start:end], length), seen, pictures


def disturb(lips: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Lips ``[B, T, 29]`` of other people and trackers: mirrored, wider or less wide, of another rest, with noise."""
    batch = len(lips)
    lips = np.where(rng.random((batch, 1, 1)) < 0.5, lips[..., mirrored()], lips)
    lips = lips * rng.uniform(0.7, 1.35, (batch, 1, 1)) + rng.normal(0, 0.02, (batch, 1, lips.shape[-1]))
    return (lips + rng.normal(0, 0.008, lips.shape)).astype(np.float32)


def sync_loss(expert: SyncExpert, mouth: Tensor, sound: Tensor, seen: Tensor) -> Tensor:
    """Binary cross entropy on cosines, and a choice among the clip's own moments (van den Oord et al. 2018, eq. 4).

    Mouth and sound of one moment belong together; those of a clip more than two frames apart (hard) and those of other
    clips do not. What lies one or two frames off is neither.

    Args:
        expert: gives scale and bias.
        mouth, sound: unit vectors ``[B, T, D]``.
        seen: bool ``[B, T]``, frames that count.
    """
    clips, frames = seen.shape
    logits = expert.logits(torch.einsum("btd,bud->btu", mouth, sound))
    pairs = seen[:, :, None] & seen[:, None]
    time = torch.arange(frames)
    lag = (time[:, None] - time).abs()
    true, hard = pairs & (lag == 0), pairs & (lag > 2)
    others = expert.logits((mouth * sound.roll(1, 0)).sum(-1))[seen & seen.roll(1, 0)]
    positive = functional.softplus(-logits[true]).mean()
    negative = (functional.softplus(logits[hard]).mean() + functional.softplus(others).mean()) / 2
    choices = logits.masked_fill(~(true | hard), -1e4)
    target = time.expand(clips, frames)[seen]
    choice = functional.cross_entropy(choices[seen], target) + functional.cross_entropy(choices.mT[seen], target)
    return positive + negative + 0.5 * choice


def teach_lips(
    expert: SyncExpert, clips: Sequence[Clip], settings: Settings, log: Callable[[str], None], seed: int
) -> SyncExpert:
    """Train the ear, and the encoder of coefficients."""
    rng = np.random.default_rng(seed)
    excerpts = Excerpts([replace(c, crops=None) for c in clips], settings, rng)
    rows = np.concatenate([c.coefficients[:: max(1, len(c.coefficients) // 100)] for c in clips])
    expert.mean.copy_(torch.from_numpy(rows.mean(0)))
    expert.spread.copy_(torch.from_numpy(rows.std(0) + 0.02))

    def loss() -> Tensor:
        mel, lips, seen, _ = excerpts(settings.batch)
        mouth = hold_ends(torch.from_numpy(disturb(lips.numpy(), rng)))
        return sync_loss(expert, expert.of_lips(mouth), expert.of_sound(mel), seen)

    parameters = [*expert.ear.parameters(), *expert.lips.parameters(), expert.scale, expert.bias]
    descend(expert, parameters, loss, settings.steps, settings, log)
    return expert.eval()


def teach_eye(
    expert: SyncExpert, clips: Sequence[Clip], settings: Settings, log: Callable[[str], None], seed: int
) -> SyncExpert:
    """Train the encoder of pictures to agree with the sound, and with what the coefficients say."""
    clips = [c for c in clips if c.crops is not None and c.licence in PICTURES]
    excerpts = Excerpts(clips, settings, np.random.default_rng(seed))

    def loss() -> Tensor:
        mel, lips, seen, pictures = excerpts(settings.picture_batch)
        with torch.no_grad():
            expert.ear.eval(), expert.lips.eval()
            sound, told = expert.of_sound(mel), expert.of_lips(hold_ends(lips))
        mouth = expert.of_pictures(torch.from_numpy(np.stack(pictures)))
        return sync_loss(expert, mouth, sound, seen) + settings.telling * (1 - (mouth * told).sum(-1))[seen].mean()

    parameters = [*expert.eye.parameters(), *expert.gaze.parameters()]
    descend(expert, parameters, loss, settings.picture_steps, settings, log)
    return expert.eval()


def descend(
    expert: SyncExpert, parameters: list[nn.Parameter], loss: Callable[[], Tensor], steps: int, settings: Settings,
    log: Callable[[str], None],
) -> None:  # fmt: skip
    """AdamW on a one-cycle schedule with clipped gradients."""
    optimiser = torch.optim.AdamW(parameters, settings.rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, steps, pct_start=0.1)
    expert.train()
    total = 0.0
    for step in range(1, steps + 1):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        total += float(value.detach())
        if step % 100 == 0:
            log(f"step {step}, loss {total / 100:.3f}")
            total = 0.0


def weighted_median(values: Sequence[float], chance: NDArray[np.float64]) -> float:
    """The value at which half of the weight is reached."""
    order = np.argsort(values)
    return float(np.asarray(values)[order[np.searchsorted(chance[order].cumsum(), 0.5)]])


def align(
    clips: Sequence[Clip], train: Callable[[Sequence[Clip], int], SyncExpert], log: Callable[[str], None]
) -> list[Clip]:
    """Move each clip's sound to its picture by an expert that never saw the person; drop what does not belong together.

    The people are dealt into two folds, each judged by an expert of the other. What most people agree on is no offset:
    the median of all is subtracted.
    """
    people = sorted({c.identity for c in clips}, key=lambda p: -sum(c.identity == p for c in clips))
    fold = {p: i % 2 for i, p in enumerate(people)}
    found: dict[str, Sync] = {}
    for side in (0, 1):
        judge = SyncJudge(train([c for c in clips if fold[c.identity] != side], side))
        found |= {c.key: compare(_cosines(judge, c)) for c in clips if fold[c.identity] == side}
    steady = [c for c in clips if found[c.key].steady]
    anchor = weighted_median([found[c.key].offset_s for c in steady], shares(steady))
    log(f"the clips' common offset is {anchor:+.3f} s")
    kept = []
    for clip in clips:
        sync = found[clip.key]
        offset = sync.offset_s - anchor
        if sync.steady and abs(offset) <= MAX_MOVE_S:
            kept.append(replace(clip, offset_s=offset))
        elif sync.score - sync.score_at_zero < 0.04:
            kept.append(replace(clip, offset_s=0.0))
        else:
            log(f"left out: {clip.key}, {sync}")
    log(
        f"{len(kept)} of {len(clips)} clips kept, {sum(abs(c.offset_s) > 0.03 for c in kept)} moved by more than 0.03 s"
    )
    return kept


def gather(data: Path, split: str) -> list[Clip]:
    """The clips of a dataset's split, with the mouth pictures of those whose licence allows to learn from them."""
    return [
        Clip(
            sample.key,
            sample.record.identity,
            sample.record.licence,
            sample.motion.coefficients[:, list(LIPS)],
            mouth_crops(sample.frames(), sample.landmarks) if sample.record.licence in PICTURES else None,
            sample.samples,
            sample.seen,
        )
        for sample in Dataset(data, split)
    ]


def faces(data: Path) -> list[Face]:
    """A picture of each person of the ``train`` split whose licence allows it: the picture, its mesh, the licence."""
    found = {}
    for sample in Dataset(data, "train"):
        if sample.record.licence in PICTURES and sample.record.identity not in found and sample.seen[0]:
            found[sample.record.identity] = next(sample.frames(0, 1)), sample.landmarks[0], sample.record.licence
    return list(found.values())


def render(
    clips: Sequence[Clip],
    people: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32], str]],
    rng: np.random.Generator,
) -> list[Clip]:
    """Clips that may not teach by their pixels, their motion carried by the faces of others, each by two."""
    detector, rendered = FaceDetector(), []
    for i, clip in enumerate([c for c in clips if c.licence not in PICTURES] * 2):
        face, landmarks, licence = people[i % len(people)]
        total = len(clip.coefficients)
        start = int(rng.integers(0, max(1, total - RENDERED_FRAMES + 1)))
        cut = slice(start, start + RENDERED_FRAMES)
        coefficients = np.zeros((len(clip.coefficients[cut]), len(ARKIT)), np.float32)
        coefficients[:, list(LIPS)] = clip.coefficients[cut]
        crops = render_mouths(face, landmarks, coefficients, detector)
        if crops is not None:
            early = max(0, start * FRAME_SAMPLES - SAMPLE_RATE)  # a second of sound before, whatever the offset
            late = (start + RENDERED_FRAMES) * FRAME_SAMPLES + SAMPLE_RATE
            rendered.append(
                Clip(
                    f"{clip.key} rendered {i}", clip.identity, licence, clip.coefficients[cut], crops,
                    clip.samples[early:late], clip.seen[cut],
                    clip.offset_s + (start * FRAME_SAMPLES - early) / SAMPLE_RATE,
                )
            )  # fmt: skip
    return rendered


def train(
    settings: Settings, clips: Sequence[Clip], draw: Callable[[Sequence[Clip]], list[Clip]], log: Callable[[str], None]
) -> SyncExpert:
    """The whole recipe: align twice, teach ear and lips on what is left, then the eye on real and rendered mouths.

    Args:
        settings: sizes and lengths.
        clips: what teaches.
        draw: aligned clips to rendered ones; see :func:`render`.
        log: hears lines.
    """

    def first(some: Sequence[Clip], seed: int) -> SyncExpert:
        torch.manual_seed(seed)
        return teach_lips(
            SyncExpert(**settings.network), some, replace(settings, steps=settings.align_steps), log, seed
        )

    for _ in range(settings.rounds):
        clips = align(clips, first, log)
    torch.manual_seed(settings.seed)
    expert = teach_lips(SyncExpert(**settings.network), clips, settings, log, settings.seed)
    return teach_eye(expert, [*clips, *draw(clips)], settings, log, settings.seed)


def accuracy(judge: SyncJudge, clips: Sequence[Clip]) -> float:
    """How often a second of lips likes its own sound better than the clip's sounds 0.2 to 0.6 s away; mean of clips."""
    won = []
    for clip in clips:
        cosines = _cosines(judge, clip)
        if len(cosines) >= FPS:
            seconds = np.lib.stride_tricks.sliding_window_view(cosines, int(FPS), axis=0).mean(-1)  # [T - 24, 31]
            own, far = seconds[:, MAX_LAG, None], np.delete(seconds, range(MAX_LAG - 4, MAX_LAG + 5), 1)
            won.append((own > far)[np.isfinite(far)].mean())
    return float(np.mean(won))


def _cosines(judge: SyncJudge, clip: Clip) -> NDArray[np.float32]:
    coefficients = np.zeros((len(clip.coefficients), len(ARKIT)), np.float32)
    coefficients[:, list(LIPS)] = clip.coefficients
    return judge.cosines_of_coefficients(coefficients, clip.samples)


def main() -> None:
    """Parse, gather, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a dataset of magictalk data build")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        run(options.data, options.out, options.seed, lambda line: print(line, flush=True))
    except MagicTalkError as error:
        parser.exit(2, f"error: {error}\n")


def run(data: Path, out: Path, seed: int, log: Callable[[str], None]) -> None:
    """Train on a dataset and save the weights to ``out``.

    Raises:
        DatasetError: when the dataset has no ``train`` or ``val`` clips, or none whose pixels may teach.
    """
    taught, held, people = gather(data, "train"), gather(data, "val"), faces(data)
    if not people:
        raise DatasetError(
            f"no clip in {data} whose pixels may teach; expected a manifest with licence_class {' or '.join(PICTURES)}"
        )
    expert = train(Settings(seed=seed), taught, lambda c: render(c, people, np.random.default_rng(seed)), log)
    expert.save_pretrained(out)
    log(f"val: own second preferred {accuracy(SyncJudge(expert), held):.3f}")


if __name__ == "__main__":
    main()
