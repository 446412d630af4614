"""Raw videos: which there are, what they are called, and what a manifest says of them."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from magictalk.data.table import ClipRecord
from magictalk.errors import DatasetError

SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts",
    ".vob", ".webm", ".wmv",
)  # fmt: skip
"""Names of videos end in one of these."""
MANIFEST = "manifest.csv"
_LONGEST_KEY = 80
"""Characters; shards take 100 of name, and a hash, the clip's number and an ending are to come."""


class ManifestError(DatasetError):
    """A manifest cannot be used."""


@dataclass(frozen=True)
class Source:
    """One raw video, and what is known of it beforehand.

    Attributes:
        path: the file.
        name: its path relative to the folder given.
        key: the name made fit for archives: letters, digits, ``-`` and ``_``; unique among the sources.
        identity, split, language, licence: as the manifest says; empty where it does not.
    """

    path: Path
    name: str
    key: str
    identity: str = ""
    split: str = ""
    language: str = ""
    licence: str = ""

    def record(self) -> ClipRecord:
        """The first row that this source gives, nothing yet known of its picture."""
        return ClipRecord(
            f"{self.key}-0000", self.name, identity=self.identity, split=self.split,
            language=self.language, licence=self.licence,
        )  # fmt: skip


def find_videos(raw: Sequence[Path]) -> list[Path]:
    """The video files among ``raw`` and, at any depth, in the folders among them; sorted, hidden ones left out.

    Raises:
        DatasetError: when one of them does not exist, or there is no video.
    """
    found: dict[Path, Path] = {}  # under the names given, a file that is linked twice once
    for path in map(_absolute, raw):
        if not path.exists():
            raise DatasetError(f"no file or folder at {path}; expected raw videos")
        for video in sorted(_inside(path)) if path.is_dir() else [path]:
            found.setdefault(video.resolve(), video)
    if not found:
        raise DatasetError(f"no video in {', '.join(map(str, raw))}; expected files such as .mp4, .mov or .webm")
    return sorted(found.values())


def _absolute(path: Path) -> Path:
    """Without ``..``, links left as they are."""
    return Path(os.path.abspath(path))


def _inside(folder: Path) -> list[Path]:
    files: list[Path] = []
    walked = {os.path.realpath(folder)}  # links may lead in circles
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".") and os.path.realpath(Path(place, f)) not in walked]
        walked |= {os.path.realpath(Path(place, f)) for f in folders}
        files += [Path(place, n) for n in names if not n.startswith(".") and Path(n).suffix.lower() in SUFFIXES]
    return [f for f in files if f.is_file()]


def find_sources(raw: Sequence[Path], *manifests: Path | None) -> list[Source]:
    """The raw videos with what manifests say of them, in the order of their names.

    Args:
        raw: video files and folders.
        manifests: CSV with a column ``file`` (relative to the manifest's folder) and, each optional, ``identity``,
            ``split``, ``language``, ``licence_class`` and ``kind`` (rows of another kind than ``video`` are left out).
            Of a video that several describe, the first one counts.

    Raises:
        ManifestError: when a manifest is malformed.
        DatasetError: when something is missing, or there is no video.
    """
    paths = find_videos(raw)
    root = (
        _absolute(raw[0]) if len(raw) == 1 and raw[0].is_dir() else Path(os.path.commonpath([p.parent for p in paths]))
    )
    names = [p.relative_to(root).as_posix() for p in paths]
    rows: dict[Path, dict[str, str]] = {}
    for manifest in manifests:
        rows = (read_manifest(manifest) if manifest else {}) | rows
    return [
        Source(path, name, key, **rows.get(path.resolve(), {}))
        for path, name, key in zip(paths, names, unique_keys(names), strict=True)
    ]


def find_manifest(raw: Sequence[Path]) -> Path | None:
    """The first ``manifest.csv`` in one of the folders, or beside one of them."""
    folders = [p if p.is_dir() else p.parent for p in (r.resolve() for r in raw)]
    places = [place / MANIFEST for folder in folders for place in (folder, folder.parent)]
    return next((p for p in places if p.is_file()), None)


def read_manifest(path: Path) -> dict[Path, dict[str, str]]:
    """Identity, split, language and licence by resolved video path.

    Raises:
        ManifestError: when it cannot be read or has no column ``file``.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError(
            f"{path} cannot be read as a manifest ({reason}); expected CSV with a column file"
        ) from error
    if rows and "file" not in rows[0]:
        raise ManifestError(f"{path} has the columns {', '.join(rows[0])}; expected one named file")
    odd = next((r["split"] for r in rows if not re.fullmatch(r"[A-Za-z0-9_-]*", r.get("split") or "")), None)
    if odd is not None:
        raise ManifestError(f"{path} has a split named {odd!r}; expected letters, digits, - and _, such as train")
    columns = {"identity": "identity", "split": "split", "language": "language", "licence": "licence_class"}
    return {
        (path.parent / row["file"]).resolve(): {
            ours: (row.get(theirs) or "").strip(" ?") for ours, theirs in columns.items()
        }
        for row in rows
        if row["file"] and row.get("kind", "video") == "video"
    }


def unique_keys(names: Sequence[str]) -> list[str]:
    """A key for each relative path: folders and name joined, odd characters replaced, told apart by a hash if need be.

    >>> unique_keys(["a/b c.mp4", "x.mov", "x.mp4"])
    ['a_b_c', 'x-934f66e2', 'x-355cd8d0']
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", str(Path(n).with_suffix("")))[:_LONGEST_KEY] for n in names]
    count = Counter(plain)
    return [
        k if count[k] == 1 else f"{k}-{hashlib.sha256(n.encode()).hexdigest()[:8]}"
        for k, n in zip(plain, names, strict=True)
    ]
