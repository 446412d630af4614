"""MCDM's videos: clip after clip, each led by motion tokens, by the clip before and by what is remembered (3.2, 3.4).

What a small network gets wrong it sees again in the archive, clip after clip. An anchor ends this: the portrait, mixed
into the archive that is shown.

Whatever the length, what is carried from clip to clip is the latents of one clip and one memory for each denoising
step: neither memory nor the cost of a frame grows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion.clips import ClipNet, Memory
from magictalk.render.diffusion.denoising import LatentVideo, Sampling
from magictalk.render.diffusion.fusion import noise
from magictalk.render.diffusion.memory import ALPHA

FRAMES = 16
"""a of the paper: frames of the archive, and so of a clip."""
_ARCHIVE, _MEMORY = "archive", "memory"


@dataclass(frozen=True)
class Carried:
    """What one clip hands to the next.

    Attributes:
        frame: frames that are finished.
        archive: latents of the last clip's frames ``[N, C, h, w]``, float32.
        memory: what is remembered after each denoising step that was taken; empty before the first clip.
    """

    frame: int
    archive: Tensor
    memory: tuple[Memory, ...] = ()

    def save(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write it, whole or not at all.

        Args:
            path: a ``.safetensors`` file.
            facts: what made it, and what alone may go on with it, by name (see :meth:`ClipByClip.facts`).
        """
        from safetensors.torch import save_file

        tensors = {_ARCHIVE: self.archive}
        for step, memory in enumerate(self.memory):
            tensors |= {f"{_MEMORY}/{step}/{name}": value for name, value in memory.items()}
        part = path.with_suffix(".part")
        kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(kept, part, {"frame": str(self.frame), "facts": json.dumps(dict(facts))})
        part.replace(path)

    @classmethod
    def open(cls, path: Path, facts: Mapping[str, str]) -> Carried:
        """Read what :meth:`save` wrote.

        Raises:
            MagicTalkError: when the file is damaged.
            OptionError: when something else made it; what differs is named.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                stated: dict[str, str] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
        except (OSError, SafetensorError) as error:
            raise MagicTalkError(f"{path} holds no state of a video ({error}); begin anew") from error
        theirs: dict[str, str] = json.loads(stated.get("facts", "{}"))
        for name, ours in facts.items():
            if theirs.get(name) != ours:
                raise OptionError(
                    f"{path} is of another {name}: {theirs.get(name, 'none is stated')}, and this video's is {ours}; "
                    "begin anew, or ask for the same"
                )
        memory: dict[int, Memory] = {}
        for key, value in tensors.items():
            if key.startswith(f"{_MEMORY}/"):
                _, step, name = key.split("/", 2)
                memory.setdefault(int(step), {})[name] = value
        return cls(int(stated["frame"]), tensors[_ARCHIVE], tuple(memory[i] for i in sorted(memory)))


class ClipByClip(LatentVideo):
    """An autoencoder and a :class:`ClipNet`, put to use.

    Args:
        vae: a diffusers ``AutoencoderKL``.
        network: says what noise is in a clip.
        scheduler: diffusers' DDIM.
        history: False keeps the portrait in the archive throughout (the paper's table 4, without the archived clip).
    """

    def __init__(self, vae: nn.Module, network: ClipNet, scheduler: Any, history: bool = True) -> None:
        super().__init__(vae, scheduler)
        self.network, self.history = network.eval(), history

    def begin(self, reference: Tensor) -> Carried:
        """What stands before the first clip: the portrait, whose latents are ``[C, h, w]``, as every archived frame."""
        return Carried(0, reference.expand(FRAMES, -1, -1, -1).clone())

    def facts(self, sampling: Sampling, alpha: float, anchor: float, side: int) -> dict[str, str]:
        """What the state of a video depends on."""
        config: Any = self.network.config
        own = {name: value for name, value in config.items() if not name.startswith("_")}
        return {
            "network": json.dumps(own, sort_keys=True, default=str),
            "resolution": f"{side} pixels",
            "denoising": f"{sampling.taken()} of {sampling.steps} steps, guidance {sampling.guidance:g}",
            "alpha": f"{alpha:g}",
            "anchor": f"{anchor:g}",
        }

    @torch.inference_mode()
    def clip(
        self, carried: Carried, reference: Tensor, motion: Tensor, sampling: Sampling, alpha: float = ALPHA,
        beginning: Tensor | None = None, anchor: float = 0.0,
    ) -> tuple[Tensor, Carried]:  # fmt: skip
        """Latents ``[n, C, h, w]`` of the next frames, at most ``FRAMES``, and what goes on to those after them.

        Args:
            carried: what the clip before handed on.
            reference: latents of the portrait ``[C, h, w]``.
            motion: tokens ``[n, 3, W]``; a last clip that is shorter holds its last frame meanwhile.
            sampling: its ``strength`` says how much noise covers ``beginning``.
            alpha: how much of the past is kept from frame to frame (equation 5).
            beginning: latents ``[n, C, h, w]`` of another render's frames; pure noise is begun with by default.
            anchor: share of the portrait in the archive that is shown, 0 to 1; 0 is the paper's.

        Raises:
            MagicTalkError: when memory does not suffice.
            ValueError: when there is no frame, or more than a clip has.
        """
        n = len(motion)
        if not 0 < n <= FRAMES:
            raise ValueError(f"a clip of {n} frames; expected 1 to {FRAMES}")
        whole = _filled(motion)
        shape = reference.shape
        x = torch.cat(list(noise(FRAMES, shape, sampling.seed, sampling.shared, carried.frame)))
        times = self.times(sampling)
        if beginning is not None:
            clean = _filled(beginning)
            x = self.scheduler.add_noise(clean, x, times[:1]) if len(times) else clean
        latents = x.transpose(0, 1)[None].to(self.device)  # [1, C, N, h, w]
        archive = torch.lerp(carried.archive, reference.expand_as(carried.archive), anchor)
        kept: list[Memory] = []
        try:
            for k, time in enumerate(times):
                before = carried.memory[k] if carried.memory else None
                latents, memory = self._step(latents, time, reference, archive, whole, before, sampling, alpha)
                kept.append(memory)
        except torch.OutOfMemoryError as error:
            raise MagicTalkError(
                f"out of memory with a clip of {FRAMES} frames; take another machine, or the embedded tier"
            ) from error
        made = latents[0].transpose(0, 1)[:n].float().cpu()
        after = torch.cat([carried.archive, made])[-FRAMES:] if self.history else carried.archive
        return made, Carried(carried.frame + n, after, tuple(kept))

    def _step(
        self, x: Tensor, time: Tensor, reference: Tensor, archive: Tensor, motion: Tensor, memory: Memory | None,
        sampling: Sampling, alpha: float,
    ) -> tuple[Tensor, Memory]:  # fmt: skip
        """A DDIM step; guidance leads away from motion of which nothing is said."""
        halves = 1 if sampling.guidance == 1 else 2
        said = motion[None] if halves == 1 else torch.stack([torch.zeros_like(motion), motion])
        z = x.to(self.dtype)
        found, kept = self.network(
            z.expand(halves, -1, -1, -1, -1), time.to(z.device), reference.to(z).expand(halves, -1, -1, -1),
            archive.to(z).expand(halves, -1, -1, -1, -1), said.to(z), memory, alpha,
        )  # fmt: skip
        unled, led = found[:1].float(), found[-1:].float()
        epsilon = led if halves == 1 else unled + sampling.guidance * (led - unled)
        return self.scheduler.step(epsilon, int(time), x).prev_sample, kept


def _filled(values: Tensor) -> Tensor:
    """``[n, ...]`` as ``[FRAMES, ...]``: the last one held."""
    return torch.cat([values, values[-1:].expand(FRAMES - len(values), *values.shape[1:])])
