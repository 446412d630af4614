"""What clips look like, in words, and the same clips in other looks: what teaches a small network to read prompts.

Each clip is also shown with another face, background, hair, light or in another medium, with a caption that says so.
The captions' attributes are a table that people can edit.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from magictalk.errors import DatasetError
from magictalk.face.person import person_masks
from magictalk.render.diffusion.caption import BACKGROUNDS, Caption, caption_of, hair_of, lab_of, rgb_of
from magictalk.train.pictures import Clip
from magictalk.train.strangers import Recognise, stranger

Frames = NDArray[np.uint8]
"""``[T, S, S, 3]``, RGB."""

TINTS = {
    "black": (0.4, 0, 0), "blond": (1.6, 4, 30), "red": (1.0, 30, 28), "grey": (1.4, 0, 0), "brown": (0.9, 8, 16),
    "blue": (1.1, 4, -38), "green": (1.1, -34, 24), "pink": (1.4, 36, -4),
}  # fmt: skip
"""Hair that is given: a factor of CIE L*, then a* and b*."""
LIGHTS = {"warm": (1.15, 1.0, 0.78), "cold": (0.82, 1.0, 1.18), "dim": (0.5, 0.5, 0.52), "bright": (1.3, 1.3, 1.28)}
"""Factors of red, green and blue."""


@dataclass(frozen=True)
class Look:
    """A clip as it is, or in another look.

    Attributes:
        caption: says what is seen.
        clip: what is seen.
    """

    caption: Caption
    clip: Clip


def person_of(clip: Clip) -> NDArray[np.float32]:
    """How much each pixel of a clip is the person, ``[T, S, S]``, 0..1."""
    side = clip.frames.shape[1]
    masks = [cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) for mask in person_masks(clip.frames)]
    return np.stack(masks)


def behind(frames: Frames, person: NDArray[np.float32], colour: tuple[int, int, int]) -> Frames:
    """The person in front of a colour, a little darker towards the bottom."""
    side = frames.shape[1]
    plate = np.array(colour, np.float32) * np.linspace(1.08, 0.8, side, dtype=np.float32)[:, None, None]
    soft = person[..., None] ** 2 * (3 - 2 * person[..., None])
    return _bytes(soft * frames + (1 - soft) * plate)


def tinted(frames: Frames, hair: NDArray[np.float32], tint: tuple[float, float, float]) -> Frames:
    """Hair of another colour: its light and shade stay."""
    lab = lab_of(frames.astype(np.float32))
    light, a, b = tint
    wanted = np.stack(
        [(lab[..., 0] * light).clip(0, 96), np.full_like(lab[..., 0], a), np.full_like(lab[..., 0], b)], -1
    )
    return _bytes(rgb_of(lab + 0.9 * hair[..., None] * (wanted - lab)))


def _grey(frames: Frames) -> Frames:
    return np.repeat(np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames])[..., None], 3, -1)


def _sepia(frames: Frames) -> Frames:
    return _bytes(_grey(frames).astype(np.float32) * np.array([1.08, 0.9, 0.68], np.float32))


def _pencil(frames: Frames) -> Frames:
    return np.stack([np.repeat(cv2.pencilSketch(f, None, None, 20, 0.1, 0.05)[0][..., None], 3, -1) for f in frames])


def _cartoon(frames: Frames) -> Frames:
    drawn = []
    for frame in frames:
        flat = cv2.edgePreservingFilter(frame, flags=1, sigma_s=12, sigma_r=0.4)
        flat = (flat // 40) * 40 + 20
        lines = cv2.adaptiveThreshold(
            cv2.medianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), 3), 255, cv2.ADAPTIVE_THRESH_MEAN_C,
            cv2.THRESH_BINARY, 7, 5,
        )  # fmt: skip
        drawn.append(np.where(lines[..., None] > 0, flat, flat // 3))
    return np.stack(drawn)


MEDIA: dict[str, Callable[[Frames], Frames]] = {
    "photograph": lambda frames: frames,
    "black and white photograph": _grey,
    "sepia photograph": _sepia,
    "pencil drawing": _pencil,
    "cartoon": _cartoon,
}
"""In what a clip may be shown, and how it is made so."""


def looks_of(
    clip: Clip,
    caption: Caption,
    person: NDArray[np.float32],
    count: int,
    recognise: Recognise,
    rng: np.random.Generator,
) -> list[Look]:
    """The clip as it is, then ``count - 1`` other looks of strangers out of it.

    Args:
        clip: the clip.
        caption: of it.
        person: as :func:`person_of` gives it.
        count: of looks.
        recognise: tells who the strangers are.
        rng: draws the looks.
    """
    looks = [Look(caption, clip)]
    while len(looks) < count:
        other, mask = stranger(clip, person, recognise, rng)
        frames, said = other.frames, caption
        hair = np.stack([hair_of(points, part) for points, part in zip(other.points, mask, strict=True)])
        if hair.mean() > 0.01 and rng.random() < 0.4:
            name = str(rng.choice(list(TINTS)))
            frames, said = tinted(frames, hair, TINTS[name]), replace(said, hair=name)
        if rng.random() < 0.5:
            name = str(rng.choice(list(BACKGROUNDS)))
            frames, said = behind(frames, mask, BACKGROUNDS[name]), replace(said, background=name)
        if rng.random() < 0.3:
            name = str(rng.choice(list(LIGHTS)))
            frames = _bytes(frames * np.array(LIGHTS[name], np.float32))
            said = replace(said, light=name)
        if rng.random() < 0.3:
            name = str(rng.choice([medium for medium in MEDIA if medium != caption.medium]))
            frames, said = MEDIA[name](frames), replace(said, medium=name)
            if name != "cartoon":  # its colours are gone
                said = replace(said, hair="", background="", light="")
        looks.append(Look(said, replace(other, frames=frames)))
    return looks


def read_captions(path: Path) -> dict[str, Caption]:
    """The table that :func:`write_captions` wrote and somebody may have edited, by clip.

    Raises:
        DatasetError: when it lacks a column.
    """
    names = [field.name for field in fields(Caption)]
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = [name for name in ("clip", *names) if name not in (rows.fieldnames or ())]
        if missing:
            raise DatasetError(f"{path} lacks the column {missing[0]}; expected clip, {', '.join(names)}")
        return {row["clip"]: Caption(**{name: (row[name] or "").strip() for name in names}) for row in rows}


def write_captions(path: Path, captions: Mapping[str, Caption]) -> None:
    """A row a clip, to look at and to edit."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, ["clip", *(field.name for field in fields(Caption))])
        rows.writeheader()
        rows.writerows({"clip": name, **asdict(caption)} for name, caption in captions.items())
    part.replace(path)


def _bytes(values: NDArray[Any]) -> Frames:
    return np.asarray(values).round().clip(0, 255).astype(np.uint8)


def captions_for(clips: Sequence[Clip], people: Sequence[NDArray[np.float32]], path: Path) -> list[Caption]:
    """A caption for each clip: from the table at ``path`` where it has one, else measured; the table then has all.

    Args:
        clips: the clips.
        people: how much each pixel of each is the person, as :func:`person_of` gives it.
        path: of the table.
    """
    known = read_captions(path) if path.is_file() else {}
    made = []
    for clip, person in zip(clips, people, strict=True):
        t = int(np.argmax(clip.seen))
        made.append(known.get(clip.name) or caption_of(clip.frames[t], clip.points[t], person[t], clip.smile))
    write_captions(path, known | {clip.name: caption for clip, caption in zip(clips, made, strict=True)})
    return made
