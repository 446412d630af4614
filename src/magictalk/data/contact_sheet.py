"""The contact sheet of a dataset: which clips to look at, and a picture of each that tells much at a glance."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magictalk.data.dataset import Sample, read_samples
from magictalk.data.table import ClipRecord
from magictalk.speech import FPS, RATE

PICTURED = 200
"""Clips on the sheet."""
_FACE_PX, _LIPS_PX, _LEVEL_PX = 144, (48, 32), 24
_LIPS, _LIP_STEP = 12, 2
"""Pictures of the lips, and frames from one to the next."""
_FRAME_SAMPLES = RATE // FPS
_BAR, _GROUND = (94, 176, 239), (24, 28, 36)
"""Colours of the sound's level."""


@dataclass(frozen=True)
class Card:
    """One clip of the contact sheet: its row of the table, and a JPEG picture as a data URI."""

    record: ClipRecord
    picture: str


def choose(records: Sequence[ClipRecord], count: int = PICTURED) -> list[ClipRecord]:
    """Kept clips for a contact sheet: everybody once, then everybody twice…, evenly where there are too many.

    Returns:
        At most ``count`` records, the lowest sync score first (then by key): what is most doubtful is seen first.
    """
    people: dict[str, list[ClipRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda r: r.key):
        if record.kept:
            people[record.identity].append(record)
    chosen: list[ClipRecord] = []
    for turn in range(max(map(len, people.values()), default=0)):
        row = [people[name][turn] for name in sorted(people) if turn < len(people[name])]
        room = min(count - len(chosen), len(row))
        chosen += [row[i * len(row) // room] for i in range(room)]
    return sorted(chosen, key=lambda r: (np.nan_to_num(r.sync_score, nan=2.0), r.key))


def make_cards(folder: Path, records: Sequence[ClipRecord]) -> list[Card]:
    """Cards of the clips that :func:`choose` picks, in its order; one clip is in memory at a time.

    Raises:
        DatasetError: when a clip in a shard is damaged.
    """
    chosen = choose(records)
    made = {sample.key: _card(sample) for sample in read_samples(folder, chosen)}
    return [made[r.key] for r in chosen]


def _card(sample: Sample) -> Card:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture(sample)).save(buffer, "jpeg", quality=75)
    return Card(sample.record, f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def picture(sample: Sample) -> NDArray[np.uint8]:
    """What to look at of a clip, uint8 RGB ``[200, 576, 3]``.

    Four moments spread over it; twelve of the lips, 80 ms apart, in its loudest second; under them the sound's
    level at the same times: closed lips should stand over quiet places.
    """
    import cv2

    count = len(sample)
    moments = [next(sample.frames(t, t + 1)) for t in np.linspace(0, count - 1, 6).astype(int)[1:5].tolist()]
    faces = [cv2.resize(frame, (_FACE_PX, _FACE_PX), interpolation=cv2.INTER_AREA) for frame in moments]
    levels = np.sqrt((np.resize(sample.samples, (count, _FRAME_SAMPLES)) ** 2).mean(1))
    span = _LIPS * _LIP_STEP
    start = int(np.convolve(levels, np.ones(min(span, count)), "valid").argmax())
    shown = list(sample.frames(start, start + span))
    times = np.minimum(np.arange(0, span, _LIP_STEP), len(shown) - 1)
    lips = [_lips(shown[t], sample.lip_box[start + t]) for t in times.tolist()]
    sound = sample.samples[start * _FRAME_SAMPLES :][: span * _FRAME_SAMPLES]
    return np.concatenate([np.concatenate(faces, 1), np.concatenate(lips, 1), _level(sound, span)])


def _lips(frame: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The middle of a box ``(x, y, w, h)``, as wide as it is."""
    import cv2

    x, y, width, height = box.tolist()
    size = (max(1, round(width)), max(1, round(width * _LIPS_PX[1] / _LIPS_PX[0])))
    part = cv2.getRectSubPix(frame, size, (x + width / 2, y + height / 2))  # beyond the edge it repeats the edge
    return np.asarray(cv2.resize(part, _LIPS_PX, interpolation=cv2.INTER_AREA), np.uint8)


def _level(sound: NDArray[np.float32], frames: int) -> NDArray[np.uint8]:
    """The sound's level as mirrored bars, 10 ms each, uint8 RGB ``[24, 576, 3]``."""
    bars = np.zeros((frames * 4, RATE // 100), np.float32)
    bars.flat[: len(sound)] = sound
    level = np.sqrt((bars**2).mean(1))
    level = np.repeat(level / max(float(level.max()), 1e-6), _LIPS * _LIPS_PX[0] // len(bars))
    rows = np.abs(np.arange(_LEVEL_PX) - (_LEVEL_PX - 1) / 2) / (_LEVEL_PX / 2)
    return np.where((rows[:, None] <= level)[..., None], _BAR, _GROUND).astype(np.uint8)
