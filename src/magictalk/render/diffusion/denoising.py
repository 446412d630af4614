"""A video out of noise: guidance, control and progressive fusion in one loop, whatever the length.

The stages of a job, in this order: :meth:`VideoDiffusion.begin` lays noise, or another render's frames under noise, on
the disk; :meth:`VideoDiffusion.denoise` takes it step by step; :meth:`VideoDiffusion.decode` streams the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion.animate import CONTOUR, LANDMARKS, PREVIOUS, AnimateNet
from magictalk.render.diffusion.fusion import FRAMES, OVERLAP, Latents, Segments, fuse, noise
from magictalk.render.diffusion.reference import IDENTITY, TEXT, ReferenceNet

Frame = NDArray[np.uint8]
Progress = Callable[[int, int], None]
"""Told of steps done and steps in all."""
CONDITIONS = TEXT, IDENTITY, LANDMARKS, CONTOUR, PREVIOUS
DECODED = 8
"""Frames that go through the autoencoder at once."""


@dataclass(frozen=True)
class Sampling:
    """How a video is drawn.

    Attributes:
        steps: of DDIM.
        guidance: w of classifier-free guidance, ``empty + w (wanted - empty)``; 1 asks for the wanted one only.
        frames, overlap: N and C of the fusion.
        batch: segments that are denoised at once.
        strength: share of the steps that is taken when other frames are started from; 1 begins with pure noise.
        seed: of the noise.
        shared: share of the noise's variance that all frames have in common, 0 to 1: the more, the less flickers what
            nothing asks to change.
        weights: how much each of ``CONDITIONS`` counts; 1 where it is not named.

    Raises:
        OptionError: when a value is out of its range.
    """

    steps: int = 25
    guidance: float = 2.0
    frames: int = FRAMES
    overlap: int = OVERLAP
    batch: int = 1
    strength: float = 1.0
    seed: int = 0
    shared: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("steps", self.steps, 1, 1000),
            ("guidance", self.guidance, 0, 30),
            ("batch", self.batch, 1, 1024),
            ("strength", self.strength, 0, 1),
            ("shared noise", self.shared, 0, 1),
            *((f"weight of {name}", value, 0, 4) for name, value in self.weights.items()),
        ):
            if not low <= value <= high:
                raise OptionError(f"{name} is {value:g}; expected {low} to {high}")
        for name in self.weights:
            if name not in CONDITIONS:
                raise OptionError(f"no condition named {name!r}; expected {', '.join(CONDITIONS)}")
        Segments(1, self.frames, self.overlap)

    def taken(self) -> int:
        """Steps that are taken."""
        return max(1, round(self.steps * self.strength)) if self.strength else 0


@dataclass(frozen=True)
class Wanted:
    """What is to be seen.

    Attributes:
        length: frames.
        text: tokens ``[n, L, D]`` of what each frame from one number to another looks like.
        empty: tokens ``[L, D]`` of no text at all, which guidance leads away from.
        face: embedding ``[E]`` of who it is, or ``[R, E]`` of several pictures.
        landmarks: pictures ``[3, n, H, W]`` of frames from one number to another, -1..1.
        contour: a picture ``[3, H, W]``, -1..1.
        previous: the frame before, as ``contour``, for networks that look at it.
    """

    length: int
    text: Callable[[int, int], Tensor]
    empty: Tensor
    face: Tensor
    landmarks: Callable[[int, int], Tensor]
    contour: Tensor
    previous: Tensor | None = None


class LatentVideo:
    """Frames to latents and back, and the steps of the diffusion between.

    Args:
        vae: a diffusers ``AutoencoderKL``.
        scheduler: diffusers' DDIM, which remembers no earlier step.
    """

    def __init__(self, vae: nn.Module, scheduler: Any) -> None:
        self.vae, self.scheduler = vae.eval(), scheduler

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.vae.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks reckon in."""
        return next(self.vae.parameters()).dtype

    def latent_shape(self, side: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a frame of ``side`` pixels."""
        config = cast(Any, self.vae).config
        latent = side // 2 ** (len(config.block_out_channels) - 1)
        return config.latent_channels, latent, latent

    def times(self, sampling: Sampling) -> Tensor:
        """Steps of the diffusion that are taken, the noisiest first."""
        self.scheduler.set_timesteps(sampling.steps)
        return cast(Tensor, self.scheduler.timesteps[sampling.steps - sampling.taken() :])

    @torch.inference_mode()
    def pictures(self, latents: Tensor) -> Iterator[Frame]:
        """What latents ``[n, C, h, w]`` show, uint8 RGB ``[H, W, 3]``."""
        scale = cast(Any, self.vae).config.scaling_factor
        found = cast(Any, self.vae).decode(latents.to(self.device, self.dtype) / scale).sample
        yield from ((found.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    @torch.inference_mode()
    def encode(self, frames: Iterable[Frame]) -> Iterator[Tensor]:
        """Latents ``[n, C, h, w]`` of frames, a few at a time."""
        scale = cast(Any, self.vae).config.scaling_factor
        stream = iter(frames)
        while some := list(islice(stream, DECODED)):
            pictures = torch.from_numpy(np.stack(some)).to(self.device).permute(0, 3, 1, 2)
            found = cast(Any, self.vae).encode((pictures / 127.5 - 1).to(self.dtype)).latent_dist.mode()
            yield found.float().cpu() * scale


class VideoDiffusion(LatentVideo):
    """An autoencoder, ReferenceNet and AnimateNet, put to use.

    Args:
        vae: a diffusers ``AutoencoderKL``.
        reference: says what noise is in the latents.
        animate: an :class:`AnimateNet`, or a ``ControlPair``.
        scheduler: diffusers' DDIM, which remembers no earlier step, since segments share it.
    """

    def __init__(self, vae: nn.Module, reference: ReferenceNet, animate: nn.Module, scheduler: Any) -> None:
        super().__init__(vae, scheduler)
        self.reference, self.animate = reference.eval(), animate.eval()

    def begin(self, store: Latents, wanted: Wanted, sampling: Sampling, frames: Iterable[Frame] | None = None) -> None:
        """Lay the beginning on the disk, unless it is there: noise, over other frames where they are given.

        Args:
            store: of the latents.
            wanted: see there.
            sampling: see there.
            frames: of another render, uint8 ``[H, W, 3]``; ``sampling.strength`` says how much noise covers them.
        """
        if store.done is not None:
            return
        fresh = noise(wanted.length, store.shape, sampling.seed, sampling.shared)
        if frames is None:
            store.keep(0, fresh)
            return
        times = self.times(sampling)
        clean = self.encode(frames)
        if not len(times):
            store.keep(0, clean)
            return
        store.keep(0, (self.scheduler.add_noise(x, torch.cat(list(islice(fresh, len(x)))), times[:1]) for x in clean))

    @torch.inference_mode()
    def denoise(self, store: Latents, wanted: Wanted, sampling: Sampling, progress: Progress | None = None) -> None:
        """Take all steps that the store has not seen yet.

        Raises:
            MagicTalkError: when memory does not suffice, for a smaller batch neither.
        """
        segments = Segments(wanted.length, sampling.frames, sampling.overlap)
        times = self.times(sampling)
        batch = sampling.batch
        while (done := cast(int, store.done)) < len(times):
            try:
                store.keep(done + 1, self._step(store, segments, wanted, sampling, times[done], batch))
            except torch.OutOfMemoryError as error:
                if batch == 1 or batch < sampling.batch:
                    raise MagicTalkError(
                        f"out of memory with {batch} segments of {segments.size} frames at once; take fewer frames a "
                        f"segment, a smaller picture, or another machine"
                    ) from error
                batch = max(1, batch // 2)
                continue
            if progress:
                progress(done + 1, len(times))

    @torch.inference_mode()
    def decode(self, store: Latents, length: int, start: int = 0) -> Iterator[Frame]:
        """Frames from number ``start`` on, uint8 RGB ``[H, W, 3]``, a few at a time."""
        for first in range(start, length, DECODED):
            yield from self.pictures(store.read(first, min(first + DECODED, length)))

    def _step(
        self, store: Latents, segments: Segments, wanted: Wanted, sampling: Sampling, time: Tensor, batch: int
    ) -> Iterator[Tensor]:
        def denoise(latents: Tensor, starts: Sequence[int]) -> Tensor:
            x = latents.to(self.device).transpose(1, 2)  # [S, C, N, h, w]
            return self.step(x, starts, wanted, sampling, time).transpose(1, 2).cpu()

        return fuse(store.read, segments, denoise, batch)

    def step(self, x: Tensor, starts: Sequence[int], wanted: Wanted, sampling: Sampling, time: Tensor) -> Tensor:
        """Segments ``[S, C, N, h, w]``, float32, that begin at frames ``starts``, a DDIM step less noisy."""
        s, n = len(x), x.shape[2]
        z = x.to(self.dtype)
        spans = [(start, start + n) for start in starts]
        text = torch.stack([wanted.text(*span) for span in spans]).to(z)
        landmarks = torch.stack([wanted.landmarks(*span) for span in spans]).to(z)
        contour = wanted.contour.to(z).expand(s, -1, -1, -1)
        previous = {} if wanted.previous is None else {"previous": wanted.previous.to(z).expand(s, -1, -1, -1)}
        face = wanted.face.to(z).expand(s, *wanted.face.shape)
        t, w = time.to(z.device), sampling.weights
        if sampling.guidance == 1:
            control = self.animate(z, t, text, landmarks, contour, w, **previous)
            epsilon = self.reference(z, t, text, face, control, w)
        else:
            texts = torch.cat([wanted.empty.to(z).expand_as(text), text])
            if isinstance(self.animate, AnimateNet):  # it does not read the text: both halves get the same
                down, middle = self.animate(z, t, text, landmarks, contour, w, **previous)
                control = tuple(part.repeat(2, 1, 1, 1) for part in down), middle.repeat(2, 1, 1, 1)
            else:
                control = self.animate(_twice(z), t, texts, _twice(landmarks), _twice(contour), w)
            faces = torch.cat([torch.zeros_like(face), face])
            empty, asked = self.reference(_twice(z), t, texts, faces, control, w).chunk(2)
            epsilon = empty + sampling.guidance * (asked - empty)
        return cast(Tensor, self.scheduler.step(epsilon.float(), int(time), x).prev_sample)


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])
