"""Public checkpoints of Stable Diffusion 1.5's family, as they are published, into our networks: key by key.

| published | fills |
|---|---|
| an SD 1.5 UNet | ReferenceNet but for its motion blocks and identity branches |
| AnimateDiff's motion adapter (v1-5-3) | the motion blocks |
| IP-Adapter FaceID | the identity branches and the projection of embeddings |
| our PortraitTalk | what its IdentityNet has of its own over MAGIC-Talk's ReferenceNet |

Keys that are missing, too many or of another shape are errors that name them; nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from magictalk.errors import WeightsError
from magictalk.render.diffusion.attention import cross_attentions
from magictalk.render.diffusion.reference import IDENTITY, IDENTITY_PARTS, ReferenceNet

NAMED = 3
"""Keys that an error names."""
Slots = dict[str, str]
"""Published keys, and the names of the weights that they fill."""

_FACEID = {"proj.0": "ff.net.0.proj", "proj.2": "ff.net.2", "norm": "norm"}
"""Layers of IP-Adapter's projection, and what diffusers calls them."""


def unet_slots(network: ReferenceNet) -> Slots:
    """Of an SD 1.5 UNet, as diffusers writes it."""
    return {
        name: f"unet.{name}"
        for name in network.unet.state_dict()
        if ".motion_modules." not in name and ".processor." not in name
    }


def motion_slots(network: ReferenceNet) -> Slots:
    """Of AnimateDiff's motion adapter, as diffusers writes it."""
    return {name: f"unet.{name}" for name in network.unet.state_dict() if ".motion_modules." in name}


def identity_slots(network: ReferenceNet) -> Slots:
    """Of IP-Adapter FaceID: attention layers have the odd numbers, on the way down, up, and in the middle."""
    slots = {}
    for name in network.identity.state_dict():
        layer, _, kind = name.rpartition(".")
        published = next(theirs for theirs, ours in _FACEID.items() if ours == layer)
        slots[f"image_proj.{published}.{kind}"] = f"identity.{name}"
    for number, layer in enumerate(cross_attentions(network.unet)):
        for part in ("to_k", "to_v"):
            slots[f"ip_adapter.{2 * number + 1}.{part}_ip.weight"] = f"unet.{layer}.processor.{part}.{IDENTITY}.weight"
    return slots


def portrait_slots(network: ReferenceNet) -> Slots:
    """Of our PortraitTalk's IdentityNet: the projection of embeddings and the cross-attentions."""
    return {name: name for name in network.state_dict() if re.match(IDENTITY_PARTS, name)}


def fill(network: nn.Module, slots: Slots, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy published tensors into a network, each into its slot.

    Raises:
        WeightsError: unless the tensors have exactly the slots' keys and shapes.
    """
    own = network.state_dict()
    shapes = {key: tuple(own[name].shape) for key, name in slots.items()}
    for fault, keys in (
        ("lacks", [key for key in slots if key not in tensors]),
        ("has more than expected:", [key for key in tensors if key not in slots]),
        (
            "has other shapes:",
            [
                f"{key} {tuple(tensors[key].shape)} in place of {shape}"
                for key, shape in shapes.items()
                if key in tensors and tuple(tensors[key].shape) != shape
            ],
        ),
    ):
        if keys:
            raise WeightsError(f"{source} {fault} {_named(keys)}; is it of Stable Diffusion 1.5's layout?")
    with torch.no_grad():
        for key, name in slots.items():
            own[name].copy_(tensors[key])


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a published file.

    Raises:
        WeightsError: when it is a pickle, damaged or missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix in (".bin", ".ckpt", ".pt", ".pth"):
        raise WeightsError(
            f'{path} is a pickle, which could run any code; convert it once where you trust it: python -c "import '
            f"torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in "
            f"torch.load('{path.name}', weights_only=True).items()}}, '{path.stem}.safetensors')\""
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error


def _named(keys: Iterable[str]) -> str:
    keys = list(keys)
    rest = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
