"""Public checkpoints that fill the full tier: what they are, whose licence they have, and how they are fetched.

Nothing is fetched unasked. A licence is its publisher's; what is made with a checkpoint is bound by it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magictalk.errors import WeightsError

_NETWORK = ("config.json", "diffusion_pytorch_model.safetensors")


@dataclass(frozen=True)
class Part:
    """What is fetched of one repository of the hub.

    Attributes:
        role: the sub-folder it is put in.
        repository: on the hub.
        files: in it.
        licence: as its publisher names it.
    """

    role: str
    repository: str
    files: tuple[str, ...]
    licence: str


PARTS = (
    Part(
        "base",
        "SG161222/Realistic_Vision_V5.1_noVAE",
        (
            *(f"unet/{name}" for name in _NETWORK),
            "text_encoder/config.json", "text_encoder/model.safetensors",
            *(f"tokenizer/{name}" for name in ("merges.txt", "vocab.json", "tokenizer_config.json",
                                               "special_tokens_map.json")),
        ),
        "creativeml-openrail-m",
    ),
    Part("vae", "stabilityai/sd-vae-ft-mse", _NETWORK, "mit"),
    Part("motion", "guoyww/animatediff-motion-adapter-v1-5-3", _NETWORK, "see its card"),
    Part("landmarks", "CrucibleAI/ControlNetMediaPipeFace", tuple(f"diffusion_sd15/{name}" for name in _NETWORK),
         "openrail"),
    Part("contour", "lllyasviel/control_v11p_sd15_canny", _NETWORK, "openrail"),
)  # fmt: skip
"""Stable Diffusion 1.5's family. Identity is not among them: FaceID's weights are a pickle and for research only, so
whoever may use them converts them (:data:`IDENTITY`)."""
IDENTITY = (
    "identity: ip-adapter-faceid_sd15.bin of h94/IP-Adapter-FaceID (non-commercial), converted once to "
    "identity/ip-adapter-faceid_sd15.safetensors, and an ArcFace recogniser as TorchScript, identity/arcface.pt; "
    "without them the full tier runs with --identity-weight 0"
)
"""What must be put beside the parts by hand for identity."""


@dataclass(frozen=True)
class File:
    """A file on the hub.

    Attributes:
        part: which it belongs to.
        name: in the repository.
        size: bytes.
        sha256: of its content, where the hub states it.
        licence: as the hub has it now, else as the part has it.
    """

    part: Part
    name: str
    size: int
    sha256: str | None
    licence: str


def listing(parts: Sequence[Part] = PARTS, endpoint: str | None = None) -> list[File]:
    """What there is to fetch, asked of the hub.

    Raises:
        WeightsError: when the hub cannot be reached, or no longer has a file.
    """
    from huggingface_hub import HfApi

    hub, found = HfApi(endpoint=endpoint), []
    for part in parts:
        try:
            facts = hub.model_info(part.repository, files_metadata=True)
        except Exception as error:  # its client raises what the HTTP library of its version does
            raise WeightsError(
                f"the hub does not tell of {part.repository} ({_reason(error)}); try again later"
            ) from error
        there = {file.rfilename: file for file in facts.siblings or []}
        licence = next((tag[8:] for tag in facts.tags or [] if tag.startswith("license:")), part.licence)
        for name in part.files:
            if name not in there:
                raise WeightsError(f"{part.repository} no longer has {name}; give a folder of your own instead")
            file = there[name]
            found.append(File(part, name, file.size or 0, file.lfs.sha256 if file.lfs else None, licence))
    return found


def place(folder: Path, file: File) -> Path:
    """Where a file lies in the folder of weights."""
    return folder / file.part.role / file.name


def pull(files: Sequence[File], folder: Path, endpoint: str | None = None, log: Callable[[str], None] = print) -> None:
    """Fetch what is not there yet, and check it: size, and SHA-256 where the hub states it.

    Raises:
        WeightsError: when there is no room, a download fails, or what came is not what was promised.
    """
    from huggingface_hub import hf_hub_download

    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not _whole(place(folder, file), file)]
    wanted, room = sum(file.size for file in missing), shutil.disk_usage(folder).free
    if wanted > room:
        raise WeightsError(
            f"{wanted / 1e9:.1f} GB are to be fetched, {folder} has room for {room / 1e9:.1f}; free some"
        )
    for file in missing:
        log(f"{file.part.repository}: {file.name}, {file.size / 1e6:.0f} MB")
        options: dict[str, Any] = {"local_dir": folder / file.part.role, "endpoint": endpoint}
        try:
            hf_hub_download(file.part.repository, file.name, **options)
        except Exception as error:  # as above
            raise WeightsError(f"{file.name} of {file.part.repository} did not come ({_reason(error)}); "
                               "the same command goes on") from error  # fmt: skip
        if not _whole(place(folder, file), file):
            place(folder, file).unlink(missing_ok=True)
            raise WeightsError(f"{file.name} of {file.part.repository} came damaged and was dropped; try again")


def _whole(path: Path, file: File) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if file.sha256 is None:
        return True
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def require(folder: Path, *names: str) -> None:
    """Make sure that the parts' files are there.

    Raises:
        WeightsError: when one is not; the message names the command that fetches it.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"no folder of weights at {folder}; fetch them: magictalk weights pull magic-talk -o {folder}"
        )
    for part in PARTS:
        for name in part.files:
            if part.role in names and not (folder / part.role / name).is_file():
                raise WeightsError(
                    f"no {part.role}/{name} in {folder}; fetch it: magictalk weights pull magic-talk -o {folder}"
                )
