"""Tiers: the same classes at two sizes, and what fills them.

| | nano | full |
|---|---|---|
| frames | 128 x 128 | 512 x 512 |
| autoencoder, ReferenceNet, AnimateNet | trained by `recipes/magic_talk.sh`, in the package | public checkpoints of Stable Diffusion 1.5's family |
| reads prompts | the packaged sentence-embedding model | CLIP |
| tells who it is | dlib's recogniser | an ArcFace recogniser |
"""  # noqa: E501

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel
from numpy.typing import NDArray
from torch import Tensor, nn

from magictalk import weights
from magictalk.errors import WeightsError
from magictalk.face.recognition import SAME_PERSON, FaceRecogniser, aligned, as_identity
from magictalk.render.diffusion.animate import AnimateNet, ControlPair
from magictalk.render.diffusion.clip_by_clip import ClipByClip
from magictalk.render.diffusion.clip_render import ClipNetworks
from magictalk.render.diffusion.clips import ClipNet
from magictalk.render.diffusion.denoising import Sampling, VideoDiffusion
from magictalk.render.diffusion.fusion import Segments
from magictalk.render.diffusion.identity import Embed
from magictalk.render.diffusion.layouts import fill, identity_slots, motion_slots, portrait_slots, read, unet_slots
from magictalk.render.diffusion.public import IDENTITY, require
from magictalk.render.diffusion.reference import ReferenceNet, without_motion
from magictalk.render.diffusion.render import Networks
from magictalk.render.diffusion.schedule import animatediff_scheduler
from magictalk.render.diffusion.text import ClipText, SentenceText

NANO_SIDE, FULL_SIDE = 128, 512
SHIPPED = "nano-vae", "magic-talk-reference", "magic-talk-animate"
"""Names of the embedded tier's networks in the package."""
PORTRAIT = "portrait-talk-identity", "portrait-talk-animate"
"""What PortraitTalk adds to them."""
CLIPS = "mcdm-clips"
"""MCDM's network; it shares the autoencoder."""
DLIB_LENGTH = 1.43
"""Mean length of dlib's embeddings, over the dataset's clips; it varies little."""
DLIB_SAME, ARCFACE_SAME = 1 - SAME_PERSON**2 / (2 * DLIB_LENGTH**2), 0.3
"""Cosines of embeddings from which two faces are taken for one person's. By dlib's (0.91) no two frames of one video
were two people's, and of pairs of strangers one in twenty was one person."""


def nano(
    vae: str | Path = SHIPPED[0], reference: str | Path = SHIPPED[1], animate: str | Path = SHIPPED[2]
) -> Networks:
    """The embedded tier.

    Args:
        vae, reference, animate: names in the package, or folders.

    Raises:
        MissingDependencyError: when dlib or the sentence-embedding model is not installed.
        WeightsError: when weights are missing or do not fit.
    """
    _need(vae, reference, animate)
    return _nano(
        cast(nn.Module, weights.load(AutoencoderKL, vae)),
        weights.load(ReferenceNet, reference),
        weights.load(AnimateNet, animate),
    )


def nano_portrait(
    identity: str | Path = PORTRAIT[0],
    animate: str | Path = PORTRAIT[1],
    vae: str | Path = SHIPPED[0],
    reference: str | Path = SHIPPED[1],
) -> Networks:
    """The embedded tier of PortraitTalk: MAGIC-Talk's autoencoder and ReferenceNet, and what PortraitTalk adds.

    Args:
        identity, animate, vae, reference: names in the package, or folders.

    Raises:
        MissingDependencyError, WeightsError: as :func:`nano`.
    """
    _need(vae, reference, identity, animate)
    still = without_motion(weights.load(ReferenceNet, reference))
    path = weights.find(identity) / weights.WEIGHTS
    fill(cast(nn.Module, still), portrait_slots(still), read(path), str(path))
    coder = cast(nn.Module, weights.load(AutoencoderKL, vae))
    return _nano(coder, still.eval(), weights.load(AnimateNet, animate))


def nano_clips(
    tokens: Callable[[Tensor], Tensor], network: str | Path = CLIPS, vae: str | Path = SHIPPED[0], history: bool = True
) -> ClipNetworks:
    """The embedded tier of MCDM.

    Args:
        tokens: motion ``[n, 58]`` to motion tokens, the encoders that the network was trained with.
        network, vae: names in the package, or folders.
        history: as in :class:`ClipByClip`.

    Raises:
        WeightsError: when weights are missing or do not fit.
    """
    _need(vae, network)
    coder, clips = cast(nn.Module, weights.load(AutoencoderKL, vae)), weights.load(ClipNet, network)
    for module in (coder, cast(nn.Module, clips)):
        nn.Module.to(module, processor_dtype(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ClipNetworks(ClipByClip(coder, clips, animatediff_scheduler(), history), tokens, NANO_SIDE)


def _need(*names: str | Path) -> None:
    for name in names:
        if name in (*SHIPPED, *PORTRAIT, CLIPS) and name not in weights.names():
            recipe = "magic_talk" if name in SHIPPED else "portrait_talk" if name in PORTRAIT else "mcdm"
            others = "" if name == CLIPS else ", or draw by public checkpoints (--weights FOLDER)"
            raise WeightsError(
                f"the embedded tier's {name} is not in the package yet; train it (recipes/{recipe}.sh){others}"
            )


def _nano(vae: nn.Module, reference: ReferenceNet, animate: AnimateNet) -> Networks:
    recogniser = FaceRecogniser()

    def embed(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Tensor:
        return as_identity(torch.from_numpy(recogniser(picture, landmarks)))

    for network in (vae, reference, animate):
        # torch's own: that of diffusers warns of casting, whatever is cast
        nn.Module.to(network, processor_dtype(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    diffusion = VideoDiffusion(vae, reference, cast(nn.Module, animate), animatediff_scheduler())
    return Networks(diffusion, SentenceText(), embed, NANO_SIDE, DLIB_SAME)


def processor_dtype() -> torch.dtype:
    """Half precision where the processor multiplies in it, which is more than twice as fast; else single."""
    can = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else torch.float32


def full(
    folder: Path,
    *,
    identity: bool = True,
    motion: bool = True,
    device: str | None = None,
    side: int = FULL_SIDE,
    layout: Mapping[str, Any] | None = None,
) -> Networks:
    """The papers' size, from public checkpoints as ``magictalk weights pull magic-talk`` lays them out.

    Args:
        folder: of the checkpoints.
        identity: False leaves the identity branch out; then its weight must be 0.
        motion: False leaves the motion blocks out, for PortraitTalk's frames one by one.
        device: such as ``"cuda"``; the GPU where there is one.
        side: pixels of the frames.
        layout: settings of :class:`ReferenceNet`, where the checkpoints are not of Stable Diffusion 1.5's size.

    Raises:
        MissingDependencyError: when transformers is not installed.
        WeightsError: when a file is missing or does not fit; it is named.
    """
    require(folder, "base", "vae", *(["motion"] if motion else []), "landmarks", "contour")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if where.type == "cuda" else torch.float32
    reference = ReferenceNet(**(layout or {}), motion=motion)
    sources = [(unet_slots(reference), "base/unet"), *([(motion_slots(reference), "motion")] if motion else [])]
    for slots, part in sources:
        path = folder / part / weights.WEIGHTS
        fill(reference, slots, read(path), str(path))
    if identity:
        path = folder / "identity" / "ip-adapter-faceid_sd15.safetensors"
        if not path.is_file():
            raise WeightsError(f"no {path}; put there {IDENTITY}")
        fill(reference, identity_slots(reference), read(path), str(path))
    vae, *controls = (
        weights.load(kind, folder / part)
        for kind, part in (
            (AutoencoderKL, "vae"),
            (ControlNetModel, "landmarks/diffusion_sd15"),
            (ControlNetModel, "contour"),
        )
    )
    networks: list[nn.Module] = [cast(nn.Module, vae), reference, ControlPair(*cast(list[nn.Module], controls))]
    for network in networks:
        nn.Module.to(network, where, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    diffusion = VideoDiffusion(networks[0], reference, networks[2], animatediff_scheduler())
    return Networks(diffusion, ClipText(folder / "base"), _arcface(folder) if identity else _nobody, side, ARCFACE_SAME)


def _arcface(folder: Path) -> Embed:
    path = folder / "identity" / "arcface.pt"
    try:
        network = torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise WeightsError(f"cannot load {path}; put there {IDENTITY}") from error

    @torch.inference_mode()
    def embed(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Tensor:
        face = torch.from_numpy(aligned(picture, landmarks)).permute(2, 0, 1)[None] / 127.5 - 1
        found: Tensor = network(face)[0]
        return nn.functional.normalize(found, dim=0).clone()

    return embed


def _nobody(picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> Tensor:
    raise WeightsError("the identity branch has no weights here; use --identity-weight 0")


def operations(networks: Networks, frames: int, sampling: Sampling) -> float:
    """Floating-point operations that a video of so many frames takes in the denoising, counted without doing them."""
    from torch.utils.flop_counter import FlopCounterMode

    reference, animate = networks.diffusion.reference, networks.diffusion.animate
    channels, side, _ = networks.latent_shape()
    segments = Segments(frames, sampling.frames, sampling.overlap)
    n, halves = segments.size, 1 if sampling.guidance == 1 else 2
    tokens = networks.text(["a"]).shape[1]
    with torch.device("meta"):
        shown = copy.deepcopy(nn.ModuleList([reference, animate])).to("meta", torch.float32)
        x = torch.empty(halves, channels, n, side, side)
        text = torch.empty(halves, tokens, reference.config["width"])
        face = torch.empty(halves, reference.config["identity_width"])
        pictures = torch.empty(halves, 3, n, networks.side, networks.side)
        step = torch.zeros(halves, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            control = shown[1](x, step, text, pictures, pictures[:, :, 0])
            shown[0](x, step, text, face, control)
    return float(counter.get_total_flops()) * sampling.taken() * len(segments.starts())


def hours(networks: Networks, frames: int, sampling: Sampling) -> float:
    """Hours that the denoising of so many frames may take on this processor, from how fast it multiplies matrices."""
    side = 1024
    a, b = torch.rand(2, side, side)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return operations(networks, frames, sampling) / (2 * side**3 / min(times)) / 3600
