"""Clips in several looks, as latents and conditions: what all networks that generate videos learn from.

To make them takes minutes, so they are kept beside the dataset; whoever trains on it again, or another network, finds
them there.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from magictalk.data.table import TABLE
from magictalk.errors import OptionError
from magictalk.face.drawing import draw_landmarks
from magictalk.face.recognition import FaceRecogniser, as_identity
from magictalk.render.diffusion.text import SentenceText
from magictalk.train.autoencoder import importance
from magictalk.train.looks import Look, captions_for, looks_of, person_of, read_captions, write_captions
from magictalk.train.pictures import Clip, gather, shares_of
from magictalk.train.sequences import need
from magictalk.train.strangers import Recognise

MOST_OF_ONE = 20
"""Clips that are taken of the speaker of whom there are hundreds."""
DROPPED = 0.1
"""How often text and identity are left out, so that guidance can lead away from that."""
FACE_DROPPED, TEXT_DROPPED = 0.3, 0.1
"""How often one of them is left out alone: who knows the person by heart does not look at the landmarks."""
FACE_NOISE = 0.4
"""Standard deviation of noise on a face's embedding, whose numbers have one of about 1: few people stand for many."""
KEPT, MADE_AS = "looks", 1
"""Folder inside a dataset for what was made of it, and a number that changes when it would be made otherwise."""


@dataclass(frozen=True)
class Looking:
    """How clips are shown.

    Attributes:
        side: pixels of the pictures.
        looks: in how many each clip is shown; all but the first are of strangers.
        features: how much lips and eyes count.
        seed: of the strangers.
    """

    side: int = 128
    looks: int = 8
    features: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise OptionError(f"looks are {self.looks}; expected 1 or more")


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


class Reader(Protocol):
    """Reads captions, as :class:`magictalk.render.diffusion.text.TextEncoder`."""

    def __call__(self, texts: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True)
class Shown:
    """A clip in a look, as networks learn from it.

    Attributes:
        caption: says what is seen.
        latents, text, face, landmarks, contour, weight: as a :class:`Batch` has them, frames first, pictures 0..255.
        seen: numbers of the frames in which the face was found.
        clip: the look itself.
    """

    caption: str
    latents: Tensor
    text: Tensor
    face: Tensor
    landmarks: NDArray[np.uint8]
    contour: NDArray[np.uint8]
    weight: Tensor
    seen: NDArray[np.intp]
    clip: Clip

    def __len__(self) -> int:
        return len(self.latents)


class Videos:
    """Clips in several looks, from which batches are drawn.

    Attributes:
        clips: as they are.
        shares: probability of each.
        shown: the looks of each.
        empty: tokens of no text.

    Args:
        shown: the looks of each, as it is first.
        empty: tokens of no text.
    """

    def __init__(self, shown: Sequence[Sequence[Shown]], empty: Tensor) -> None:
        self.shown, self.empty = shown, empty
        self.clips = [of[0].clip for of in shown]
        self.shares = shares_of(self.clips)

    def by_picture(self) -> Videos:
        """The same, where a code of the whole picture says who it is, not the face recogniser's embedding."""
        other = copy.copy(self)
        other.shown = [[replace(shown, face=picture_code(shown.latents[0])) for shown in of] for of in self.shown]
        return other

    def draw(self, videos: int, frames: int, rng: np.random.Generator, varied: bool = True) -> Batch:
        """So many videos of so many frames in a row; not varied: as they are, and with everything said."""
        rows = [self._one(int(i), frames, rng, varied) for i in rng.choice(len(self.clips), videos, p=self.shares)]
        return Batch(*(torch.stack(part) for part in zip(*rows, strict=True)))

    def _one(self, i: int, frames: int, rng: np.random.Generator, varied: bool) -> tuple[Tensor, ...]:
        shown = self.shown[i][int(rng.integers(len(self.shown[i]))) if varied else 0]
        first = int(rng.choice(shown.seen)) if frames == 1 else int(rng.integers(len(shown) - frames + 1))
        here = slice(first, first + frames)
        text, face = shown.text.float(), shown.face
        if varied:
            face = face + FACE_NOISE * torch.from_numpy(rng.standard_normal(len(face), np.float32))
            text, face = self.dropped(text, face, rng)
        return (
            shown.latents[here].float().transpose(0, 1),
            text,
            face,
            torch.from_numpy(shown.landmarks[here]).permute(3, 0, 1, 2) / 127.5 - 1,
            torch.from_numpy(np.repeat(shown.contour[None], 3, 0)) / 127.5 - 1,
            shown.weight[here][None],
        )

    def dropped(self, text: Tensor, face: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What is said and who it is, left out now and then, alone or together."""
        neither, no_face, no_text = rng.random(3) < (DROPPED, FACE_DROPPED, TEXT_DROPPED)
        return self.empty if neither or no_text else text, torch.zeros_like(face) if neither or no_face else face


def videos_of(
    clips: Sequence[Clip], vae: nn.Module, text: Reader, recognise: Recognise, captions: Path, looking: Looking
) -> Videos:
    """Clips in looks that are drawn for them.

    Args:
        clips: where from.
        vae: the autoencoder.
        text: reads captions.
        recognise: tells who strangers are.
        captions: the table of them, which is read and written.
        looking: how they are shown.
    """
    rng = np.random.default_rng(looking.seed)
    people = [person_of(clip) for clip in clips]
    described = captions_for(clips, people, captions)
    shown = [
        [_shown(look, vae, text, looking) for look in looks_of(clip, said, person, looking.looks, recognise, rng)]
        for clip, said, person in zip(clips, described, people, strict=True)
    ]
    return Videos(shown, text([""])[0])


def _shown(look: Look, vae: nn.Module, text: Reader, looking: Looking) -> Shown:
    clip = look.clip
    latents = encoded(vae, clip.frames)
    return Shown(
        str(look.caption),
        latents,
        text([str(look.caption)])[0].half(),
        as_identity(torch.from_numpy(clip.face)),
        landmark_pictures(clip.points, looking.side),
        clip.contour,
        _latent_weights(clip, looking, latents.shape[-1]),
        np.flatnonzero(clip.seen),
        clip,
    )


@torch.inference_mode()
def encoded(vae: nn.Module, frames: NDArray[np.uint8], batch: int = 16) -> Tensor:
    """Latents ``[T, C, h, w]``, float16, of frames ``[T, S, S, 3]``; in bf16, which is five times as fast."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)  # channels last, as they lie there
    network = cast(Any, vae).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        parts = [network.encode(part / 127.5 - 1).latent_dist.mode().float() for part in pictures.split(batch)]
    return (torch.cat(parts) * network.config.scaling_factor).half().clone()


def landmark_pictures(points: NDArray[np.float32], side: int) -> NDArray[np.uint8]:
    """Control pictures ``[T, S, S, 3]`` of meshes ``[T, 478, 2]`` px."""
    return np.stack([draw_landmarks(mesh, side) for mesh in points])


def picture_code(latents: Tensor) -> Tensor:
    """A picture's latents ``[C, h, w]`` as 128 numbers that know nothing of faces."""
    code = nn.functional.adaptive_avg_pool2d(latents.float(), (4, 128 // (4 * len(latents)))).flatten()
    return as_identity(code)


def _latent_weights(clip: Clip, looking: Looking, side: int) -> Tensor:
    """How much the latents of a clip count, ``[T, h, w]``, 1 in the mean of a frame."""
    maps = [importance(points, looking.side, looking.features) for points in clip.points]
    small = torch.from_numpy(np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_AREA) for m in maps]))
    return small / small.mean((1, 2), keepdim=True)


def keep(videos: Videos, folder: Path) -> None:
    """Write videos, a file a clip; the text is read anew, as captions are what people edit.

    Args:
        videos: the videos.
        folder: where to; made, and whole only when it is there.
    """
    part = folder.with_name(f"{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    for i, of in enumerate(videos.shown):
        arrays, told = dict[str, Tensor](), list[dict[str, Any]]()
        for j, shown in enumerate(of):
            values = _values(shown, "") | _values(shown.clip, "clip.")
            plain = {name: value for name, value in values.items() if isinstance(value, str | float)}
            told.append(plain)
            arrays |= {
                f"{j}.{name}": torch.from_numpy(np.array(value, order="C"))  # a copy, as some are one another's
                for name, value in values.items() if name not in plain and value is not None
            }  # fmt: skip
        save_file(arrays, part / f"{i:05}.safetensors", {"looks": json.dumps(told)})
    part.replace(folder)


def _values(record: Any, prefix: str) -> dict[str, Any]:
    return {prefix + f.name: getattr(record, f.name) for f in fields(record) if f.name not in ("clip", "text")}


def kept(folder: Path, text: Reader) -> Videos:
    """Videos that :func:`keep` wrote."""
    shown = [_read(path, text) for path in sorted(folder.glob("*.safetensors"))]
    return Videos(shown, text([""])[0])


def _read(path: Path, text: Reader) -> list[Shown]:
    found: list[Shown] = []
    with safe_open(path, "pt") as file:
        for j, told in enumerate(json.loads(file.metadata()["looks"])):
            names = [name.removeprefix(f"{j}.") for name in file.keys() if name.startswith(f"{j}.")]  # noqa: SIM118
            values = told | {name: file.get_tensor(f"{j}.{name}") for name in names}
            of_clip: dict[str, Any] = {
                name.removeprefix("clip."): value.numpy() if isinstance(value, Tensor) else value
                for name, value in values.items() if name.startswith("clip.")
            }  # fmt: skip
            own = {name: value for name, value in values.items() if not name.startswith("clip.")}
            own |= {name: own[name].numpy() for name in ("landmarks", "contour", "seen")}
            found.append(Shown(text=text([told["caption"]])[0].half(), clip=Clip(**of_clip), **own))
    return found


def gathered(
    data: Path, vae: nn.Module, captions: Path, looking: Looking, log: Callable[[str], None] = lambda line: None
) -> tuple[Videos, Videos]:
    """What is learnt from and what is looked at, of a dataset, with the outlines of heads.

    They are kept in the dataset's folder and taken from there unless the dataset, the autoencoder, ``looking`` or a
    caption is another one.

    Args:
        data: the dataset's folder.
        vae: the autoencoder.
        captions: the table of captions, read and written.
        looking: how clips are shown.
        log: is told where they come from.

    Raises:
        DatasetError: when either is empty.
        MissingDependencyError: when dlib or the sentence-embedding model is not installed.
    """
    captions.parent.mkdir(parents=True, exist_ok=True)
    text = SentenceText()
    folder = data / KEPT / _fingerprint(data, vae, looking)
    table = folder / "captions.csv"
    if table.is_file() and _agree(captions, table):
        log(f"videos as they lie in {folder}")
        known = read_captions(captions) if captions.is_file() else {}
        write_captions(captions, known | read_captions(table))
        return kept(folder / "train", text), kept(folder / "val", text)
    clips = gather(data, looking.side, "train", "val", most=MOST_OF_ONE, heads=True)
    taught, rest = ([clip for clip in clips if clip.split == split] for split in ("train", "val"))
    need(len(taught), len(rest))
    recognise = FaceRecogniser()
    found = (
        videos_of(taught, vae, text, recognise, captions, looking),
        videos_of(rest, vae, text, recognise, captions, replace(looking, looks=1)),
    )
    shutil.rmtree(folder, ignore_errors=True)
    for videos, split in zip(found, ("train", "val"), strict=True):
        keep(videos, folder / split)
    write_captions(table, read_captions(captions))
    log(f"videos kept in {folder}")
    return found


def _agree(captions: Path, table: Path) -> bool:
    """Whether no caption of a clip was edited since."""
    if not captions.is_file():
        return True
    edited, made = read_captions(captions), read_captions(table)
    return all(edited.get(name, caption) == caption for name, caption in made.items())


def _fingerprint(data: Path, vae: nn.Module, looking: Looking) -> str:
    """Of all that videos depend on but captions."""
    told = {f.name: getattr(looking, f.name) for f in fields(Looking)}
    digest = hashlib.sha256(f"{MADE_AS} {MOST_OF_ONE} {sorted(told.items())}".encode())
    digest.update((data / TABLE).read_bytes())
    for name, value in sorted(vae.state_dict().items()):
        digest.update(name.encode() + value.float().numpy().tobytes())
    return digest.hexdigest()[:16]
