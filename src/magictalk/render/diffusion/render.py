"""The latent-diffusion render: a portrait, a prompt and motion to frames (MAGIC-Talk, section 3).

Any motion will do. It is drawn as landmarks, one picture a frame; the picture's contour holds the head's shape; text
and the face recogniser say how it looks and who it is. Denoising begins with noise, as in the paper, or with the rig's
frames under noise, which keeps person and lips and leaves the look to the prompt.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictalk.errors import OptionError, PortraitError
from magictalk.face.contour import contour
from magictalk.face.drawing import draw_landmarks
from magictalk.face.landmarks import Face
from magictalk.face.person import person_mask
from magictalk.face.square import head_square
from magictalk.motion import ARKIT, Motion
from magictalk.portrait import Portrait
from magictalk.render.diffusion.animate import as_control
from magictalk.render.diffusion.caption import caption_of, smile_of
from magictalk.render.diffusion.denoising import Progress, Sampling, VideoDiffusion, Wanted
from magictalk.render.diffusion.fusion import Latents
from magictalk.render.diffusion.identity import Embed
from magictalk.render.diffusion.reference import IDENTITY
from magictalk.render.diffusion.text import Prompts, TextEncoder, blend_tokens
from magictalk.render.rig import RigRender

Frame = NDArray[np.uint8]
Init = Literal["rig", "noise"]

WHOLE = 0.7
"""A square picture whose head's square has at least this share of its side is taken whole: it was cut already."""
_VALUES = len(ARKIT) + 6
"""Numbers of a frame of motion."""


@dataclass(frozen=True)
class Networks:
    """What a tier brings.

    Attributes:
        diffusion: autoencoder, ReferenceNet and AnimateNet.
        text: reads prompts.
        embed: tells who it is.
        side: pixels of the square frames.
        same: cosine of two embeddings from which they are taken for one person's.
    """

    diffusion: VideoDiffusion
    text: TextEncoder
    embed: Embed
    side: int
    same: float = 0.91

    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a frame's latents."""
        return self.diffusion.latent_shape(self.side)


@dataclass(frozen=True)
class Drawing:
    """How frames are drawn.

    Attributes:
        prompt: what is seen, perhaps over time (``"0s a young woman; 4s an old woman"``); what the portrait shows,
            measured, where None.
        init: ``"noise"`` as in the paper, or ``"rig"``: the rig's frames under noise.
        sampling: see there; its ``strength`` says how much noise covers the rig's frames.
        contour: a picture whose edges are kept in place of the portrait's own.
    """

    prompt: str | None = None
    init: Init = "rig"
    sampling: Sampling = field(default_factory=Sampling)
    contour: Path | None = None

    def __post_init__(self) -> None:
        if self.init not in get_args(Init):
            raise OptionError(f"init is {self.init!r}; expected {' or '.join(get_args(Init))}")

    @property
    def applied(self) -> Sampling:
        """What of the sampling holds: noise alone is not a matter of strength."""
        return self.sampling if self.init == "rig" else replace(self.sampling, strength=1.0)


class DiffusionRender:
    """Motion to square frames of a head, by latent diffusion.

    Args:
        portrait: who.
        drawing: how.
        networks: by what.

    Raises:
        OptionError: when the prompt is longer than what the text encoder reads.
        PortraitError: when the contour's picture cannot be read.
        StyleError: when the prompt's times are out of order.
    """

    def __init__(self, portrait: Portrait, drawing: Drawing, networks: Networks) -> None:
        self._drawing, self._networks = drawing, networks
        side = networks.side
        self.frame_size = side, side
        self.portrait = self._framed(portrait)
        large = max(2 * side, 256) if side < 512 else side  # the rig draws small faces poorly
        self.rig = RigRender(self.portrait, (large, large))
        self._shown = resized(self.portrait.image, side)
        self._mesh = self.portrait.landmarks * np.float32(side / self.portrait.image.shape[0])
        self.prompts = Prompts.parse(self._described() if drawing.prompt is None else drawing.prompt)
        for text in self.prompts.texts:
            if cut := networks.text.cut(text):
                raise OptionError(f"the prompt is too long: {cut!r} would not be read; say it in fewer words")
        self._tokens = networks.text(self.prompts.texts)
        self._empty = networks.text([""])[0]
        self._face = self._who()
        self._contour = as_control(self._edges())

    def _framed(self, portrait: Portrait) -> Portrait:
        """What of the picture is drawn."""
        return head_of(portrait)

    def _who(self) -> Tensor:
        """Who is seen."""
        if self._drawing.sampling.weights.get(IDENTITY, 1.0) == 0:
            return torch.zeros(self._networks.diffusion.reference.config["identity_width"])
        return self._networks.embed(self.portrait.image, self.portrait.landmarks)

    def __call__(
        self, motions: Iterable[Motion], start: int = 0, work: Path | None = None, job: str = "",
        progress: Progress | None = None,
    ) -> Iterator[Frame]:  # fmt: skip
        """Frames from number ``start`` on, uint8 RGB ``[S, S, 3]``.

        All motion is read and all frames are denoised before the first is given: each step blends neighbours.

        Args:
            motions: of the whole clip, at 25 fps.
            start: first frame.
            work: folder for latents, where a job that broke off is gone on with; a temporary one by default.
            job: what the frames depend on besides the drawing; latents of another job are not gone on with.
            progress: told of denoising steps done and to be done.

        Raises:
            MagicTalkError: when memory does not suffice.
        """
        drawing, diffusion = self._drawing, self._networks.diffusion
        with _folder(work) as folder:
            count = spool(motions, folder / "motion.f32")
            if not count:
                return
            points = np.memmap(folder / "points.f32", np.float32, "w+", shape=(count, 478, 2))
            from_rig = drawing.init == "rig"
            sampling = self._drawing.applied
            store = Latents(folder, self._networks.latent_shape(), f"{job} {drawing} {count}")
            drawn = self._draw(folder / "motion.f32", points, pictures=from_rig and store.done is None)
            wanted = Wanted(
                count,
                lambda a, b: blend_tokens(self._tokens, self.prompts.shares(a, b)),
                self._empty,
                self._face,
                lambda a, b: torch.stack(
                    [as_control(draw_landmarks(mesh, self.frame_size[0])) for mesh in points[a:b]], 1
                ),
                self._contour,
            )
            if from_rig and store.done is None:
                diffusion.begin(store, wanted, sampling, (resized(frame, self._networks.side) for frame in drawn))
            else:
                for _ in drawn:
                    pass
                diffusion.begin(store, wanted, sampling)
            diffusion.denoise(store, wanted, sampling, progress)
            yield from diffusion.decode(store, count, start)

    def _draw(self, motion: Path, points: NDArray[np.float32], pictures: bool) -> Iterator[Frame]:
        """Write the mesh of each frame to ``points``; give the rig's frames too, if they are wanted."""
        to_side = np.float32(self._networks.side / self.rig.frame_size[0])
        for t, (coefficients, head) in enumerate(spooled(motion)):
            posed = self.rig.pose(coefficients, head)
            points[t] = (posed.vertices[:478] + 0.5) * to_side - 0.5
            if pictures:
                yield self.rig.draw(coefficients, head)

    def _described(self) -> str:
        side = self._networks.side
        person = cv2.resize(person_mask(self.portrait.image), (side, side), interpolation=cv2.INTER_AREA)
        return str(caption_of(self._shown, self._mesh[:, :2], person, smile_of(self.portrait.coefficients)))

    def _edges(self) -> Frame:
        """The contour as a picture ``[S, S, 3]``, white on black."""
        given, side = self._drawing.contour, self._networks.side
        whose = self.portrait if given is None else head_of(Portrait.open(given))
        edges = contour(whose.image, whose.landmarks)
        small = cv2.resize(edges.astype(np.uint8) * 255, (side, side), interpolation=cv2.INTER_AREA)
        return np.repeat(small[..., None], 3, -1)


def head_of(portrait: Portrait) -> Portrait:
    """The portrait cut to the square around its head, at its own resolution; a picture that is one stays whole.

    Raises:
        PortraitError: when the face does not fit into a square of the picture's shorter side.
    """
    height, width = portrait.image.shape[:2]
    x, y, w, h = portrait.face.box
    low, face = np.array([x, y]), np.array([w, h])
    bound = np.array([width, height])
    square = head_square(low.clip(0, bound), (low + face).clip(0, bound), face, (width, height))
    if square is None:
        raise PortraitError(
            f"the face ({w:.0f}x{h:.0f}) does not fit into a square of the picture ({width}x{height}); "
            "use one with more room around it"
        )
    left, top, side = square
    if width == height and side >= WHOLE * width:
        left, top, side = 0, 0, width
    moved = np.array([left, top, 0], np.float32)
    cut = Face(portrait.landmarks - moved)
    return replace(
        portrait,
        image=np.ascontiguousarray(portrait.image[top : top + side, left : left + side]),
        faces=(cut,),
        face=cut,
        pose=replace(portrait.pose, origin_px=portrait.pose.origin_px - moved[:2]),
    )


def spool(motions: Iterable[Motion], path: Path) -> int:
    """Write motion to the disk, so that any length can be read again and again; returns the frames."""
    frames = 0
    with path.open("wb") as file:
        for motion in motions:
            file.write(np.concatenate([motion.coefficients, motion.head], 1).astype(np.float32).tobytes())
            frames += len(motion)
    return frames


def spooled(path: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Coefficients ``[52]`` and head ``[6]`` of each frame that :func:`spool` wrote."""
    with path.open("rb") as file:
        while part := file.read(4 * _VALUES):
            row = np.frombuffer(part, np.float32)
            yield row[: len(ARKIT)], row[len(ARKIT) :]


def resized(picture: Frame, side: int) -> Frame:
    """A square picture at another size."""
    smooth = cv2.INTER_AREA if side < picture.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side, side), interpolation=smooth), np.uint8)


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="magictalk-") as folder:
        yield Path(folder)
