"""What a dataset is built with: every threshold of the stages, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from magictalk.errors import OptionError


@dataclass(frozen=True)
class Settings:
    """How clips are cut, judged and written. The same raw videos and settings give the same bytes.

    Attributes:
        size: side of the square pictures written, pixels; a multiple of 16.
        shortest_s, longest_s: clips are cut to lengths between these; MCDM section 4.1 has at most 30 s.
        cut_ratio: a frame begins a scene when it differs from the one before by this many times as much as its
            neighbours do (PySceneDetect's adaptive detector, its default).
        most_lost: share of frames in which the face may be out of sight or cut off by the picture's edge.
        rival: another face counts when it is this many times as wide as the main one.
        most_strange: recognition distance between two moments of a clip above which they show two people.
        min_face_px: width of the face in the raw video, pixels.
        min_sharpness: CPBD of the face in the raw video, 0..1. Enlarged footage lies under 0.02; smooth skin in 1080p
            reaches 0.06, and faces of 100 pixels, which have few edges, scatter down to 0.02.
        min_brightness, max_brightness: mean luma of the face, 0..1.
        quality_model: TorchScript file that scores RGB pictures ``[B, 3, H, W]`` in 0..1; None for none.
        min_quality: of that score.
        sync: what judges whether lips match the sound.
        sync_model: folder with SyncNet's weights, when ``sync`` is ``"syncnet"``.
        min_confidence: of SyncNet, when that judges; 3 is what LatentSync's pipeline asks for.
        max_offset_s: a sound that is this far off or less is moved; one further off is dropped. The lip-sync expert
            leaves 0.05 s and less alone, whatever is asked for.
        shard_mb: about how large a shard is, 10^6 bytes.
        seed: of the splits.

    Raises:
        OptionError: when a value is out of its range or two contradict each other.
    """

    size: int = 512
    shortest_s: float = 2.0
    longest_s: float = 30.0
    cut_ratio: float = 3.0
    most_lost: float = 0.05
    rival: float = 1 / 3
    most_strange: float = 0.6
    min_face_px: float = 80.0
    min_sharpness: float = 0.02
    min_brightness: float = 0.1
    max_brightness: float = 0.95
    quality_model: str | None = None
    min_quality: float = 0.0
    sync: Literal["expert", "syncnet", "none"] = "expert"
    sync_model: str | None = None
    min_confidence: float = 3.0
    max_offset_s: float = 0.3
    shard_mb: float = 256.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size % 16 or not 64 <= self.size <= 2048:
            raise OptionError(f"size is {self.size}; expected a multiple of 16 from 64 to 2048 pixels")
        if not 0.2 <= self.shortest_s <= self.longest_s / 2:
            raise OptionError(
                f"clips of {self.shortest_s} to {self.longest_s} s; expected 0.2 s or more, and twice that at most"
            )
        for name, low, high in (
            ("min_face_px", 16, 4096), ("min_sharpness", 0, 1), ("min_brightness", 0, 1), ("max_brightness", 0, 1),
            ("max_offset_s", 0, 0.5), ("shard_mb", 0.001, 1e6), ("seed", 0, 2**32), ("most_lost", 0, 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise OptionError(f"{name} is {value}; expected {low} to {high}")
        if (self.sync == "syncnet") != (self.sync_model is not None):
            raise OptionError("sync by SyncNet needs a folder with its weights, and only then")
