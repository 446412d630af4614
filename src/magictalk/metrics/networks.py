"""Networks of other people that some figures need: where they are looked for, and how to get them.

None ships with MagicTalk and none is downloaded unasked. Each is looked for in a sub-folder of its name in the
folder of weights, those with a hub id also in the hub's cache on this machine. What is missing is reported, never
replaced. Files are safetensors or TorchScript; nothing is unpickled into Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from magictalk.errors import MissingDependencyError, WeightsError


class NotComputed(WeightsError):
    """A figure's network is not there; the message says what it needs and how to get it."""


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        title: what it is.
        files: what its folder must hold.
        get: how to get them, ``{folder}`` standing for the folder; a command or one sentence.
        licence: of the weights.
        hub: hub id, where they are published in a form that can be read as it is.
    """

    title: str
    files: tuple[str, ...]
    get: str
    licence: str
    hub: str | None = None


_STYLEGAN = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"

NETWORKS = {
    "inception": Network(
        "Inception-v3 as FID has it (TorchScript, images 0..255 to 2048 features)",
        ("inception.pt",),
        f"curl --create-dirs -o {{folder}}/inception.pt {_STYLEGAN}/inception-2015-12-05.pt",
        "Apache-2.0",
    ),
    "i3d": Network(
        "I3D on Kinetics-400 (TorchScript, clips 0..255 to 400 logits)",
        ("i3d.pt",),
        "curl -L --create-dirs -o {folder}/i3d.pt 'https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1'",
        "Apache-2.0",
    ),
    "lpips": Network(
        "LPIPS on AlexNet (TorchScript, two images -1..1 to a distance)",
        ("lpips.pt",),
        "mkdir -p {folder} && pip install lpips && "
        "python -c \"import torch, lpips; torch.jit.trace(lpips.LPIPS(net='alex').eval(), "
        "(torch.zeros(1, 3, 64, 64),) * 2).save('{folder}/lpips.pt')\"",
        "BSD-2-Clause",
    ),
    "clip": Network(
        "CLIP ViT-L/14",
        ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"),
        "hf download openai/clip-vit-large-patch14 --local-dir {folder}",
        "MIT",
        "openai/clip-vit-large-patch14",
    ),
    "dino": Network(
        "DINOv2 ViT-B/14",
        ("config.json", "model.safetensors", "preprocessor_config.json"),
        "hf download facebook/dinov2-base --local-dir {folder}",
        "Apache-2.0",
        "facebook/dinov2-base",
    ),
    "syncnet": Network(
        "SyncNet v2 (safetensors)",
        ("config.json", "diffusion_pytorch_model.safetensors"),
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model, converted once as "
        "magictalk/syncnet.py shows, into {folder}",
        "see its publisher",
    ),
    "arcface": Network(
        "an ArcFace recogniser (TorchScript, aligned faces 112 x 112, RGB -1..1, to an embedding)",
        ("arcface.pt",),
        "a network of your choice, exported by torch.jit.trace to {folder}/arcface.pt (InsightFace's are for "
        "non-commercial research only)",
        "see its publisher",
    ),
    "emotion": Network(
        "an emotion classifier (TorchScript, faces RGB 0..1 to logits; labels.json lists their names)",
        ("emotion.pt", "labels.json"),
        "a network of your choice, exported by torch.jit.trace to {folder}/emotion.pt, beside it labels.json",
        "see its publisher",
    ),
}


def find(name: str, weights: str | Path | None = None) -> Path:
    """The folder of a network of ``NETWORKS``: ``weights/name``, else the hub's cache on this machine.

    Raises:
        NotComputed: it is in neither, or a file is missing.
        WeightsError: there is no folder ``weights``.
    """
    network = NETWORKS[name]
    if weights is not None and not Path(weights).is_dir():
        raise WeightsError(f"no folder of weights at {weights}; expected one with a sub-folder for each network")
    folder = Path("WEIGHTS" if weights is None else weights) / name
    if weights is not None and all((folder / file).is_file() for file in network.files):
        return folder
    cached = _cached(network)
    if cached is not None:
        return cached
    then = "; then give --weights WEIGHTS" if weights is None else ""
    raise NotComputed(f"needs {network.title}, get it with: {network.get.format(folder=folder)}{then}")


def _cached(network: Network) -> Path | None:
    if network.hub is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    paths = [try_to_load_from_cache(network.hub, file) for file in network.files]
    return Path(paths[0]).parent if all(isinstance(path, str) for path in paths) else None  # type: ignore[arg-type]


def script(name: str, weights: str | Path | None = None) -> torch.jit.ScriptModule:
    """A TorchScript network, in evaluation mode.

    Raises:
        NotComputed: see :func:`find`.
        WeightsError: the file is damaged or is no TorchScript.
    """
    path = find(name, weights) / NETWORKS[name].files[0]
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise WeightsError(f"cannot load {path}: {reason}; expected a TorchScript file") from error


def pretrained(name: str, part: str, weights: str | Path | None = None) -> Any:
    """``part`` of a network that transformers reads: ``"AutoModel"``, ``"AutoImageProcessor"``, ``"AutoTokenizer"``.

    Raises:
        NotComputed: see :func:`find`.
        WeightsError: a file is damaged, or holds not all weights.
        MissingDependencyError: transformers is not installed.
    """
    folder = find(name, weights)
    try:
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise MissingDependencyError(
            f"{NETWORKS[name].title} needs transformers; pip install 'magictalk[metrics]'"
        ) from error
    kind = getattr(transformers, part)
    try:
        if part != "AutoModel":
            return kind.from_pretrained(folder, local_files_only=True)
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise WeightsError(f"cannot load {part} from {folder}: {' '.join(str(error).split())[:160]}") from error
    if report["missing_keys"]:
        raise WeightsError(f"{folder} lacks weights of {type(model).__name__}: {sorted(report['missing_keys'])[0]}, …")
    return model.eval()


def batches(frames: NDArray[np.uint8], size: int = 16) -> Iterator[Tensor]:
    """Frames ``[T, H, W, 3]`` as float tensors ``[size or fewer, 3, H, W]``, 0 to 255."""
    for start in range(0, len(frames), size):
        yield torch.from_numpy(frames[start : start + size]).permute(0, 3, 1, 2).float()


def joined(parts: Iterable[Tensor]) -> NDArray[np.float32]:
    """Features of batches as one array ``[T, D]``."""
    return torch.cat(list(parts)).numpy().astype(np.float32)
