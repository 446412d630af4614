"""Find weights: a name in the package, a folder, or a hub id, to a folder with config.json and safetensors."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from magictalk.errors import MissingDependencyError, WeightsError

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

Network = TypeVar("Network")


def names() -> list[str]:
    """Names of the networks that ship with the package."""
    root = Path(str(files("magictalk") / "assets"))
    return sorted(p.parent.name for p in root.glob(f"*/{WEIGHTS}") if (p.parent / CONFIG).is_file())


def find(name: str | Path) -> Path:
    """The folder that holds a network's ``config.json`` and its safetensors.

    Args:
        name: a name of :func:`names`, a folder, or a hub id such as ``"owner/model"`` (downloaded once, then cached).

    Raises:
        WeightsError: nothing is found under the name, or a file is missing from the folder.
    """
    root = Path(str(files("magictalk") / "assets"))
    if str(name) in names():
        return root / str(name)
    folder = Path(name)
    if folder.is_dir():
        for part in (CONFIG, WEIGHTS):
            if not (folder / part).is_file():
                raise WeightsError(f"no {part} in {folder}; expected a folder written by save_pretrained")
        return folder
    owner, _, model = str(name).partition("/")
    if owner and model and "/" not in model and not str(name).startswith((".", "~")):
        return _download(str(name))
    raise WeightsError(
        f"no weights named {str(name)!r}; expected {', '.join(names())}, a folder, or a hub id owner/model"
    )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG, WEIGHTS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"no folder or downloadable weights at {hub_id} ({reason}); names in the package: {', '.join(names())}"
        ) from error


def load(network: type[Network], name: str | Path) -> Network:
    """A diffusers network in evaluation mode, loaded strictly: every weight of it, and no other.

    Args:
        network: a class that is ``ModelMixin`` and ``ConfigMixin``.
        name: see :func:`find`.

    Raises:
        WeightsError: the weights are missing, damaged, or belong to another architecture.
    """
    import json

    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError("safetensors is not installed; pip install safetensors") from error

    folder = find(name)
    try:
        config = json.loads((folder / CONFIG).read_text())
        kind = config.get("_class_name", network.__name__)
        if kind != network.__name__:
            raise WeightsError(f"{folder} holds {kind}; expected {network.__name__}")
        model = network.from_config(config)  # type: ignore[attr-defined]
        model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"cannot load {network.__name__} from {folder}: {reason}") from error
    return model.eval()
