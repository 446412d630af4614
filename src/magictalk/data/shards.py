"""Pack finished clips into WebDataset shards: tar files whose bytes depend on nothing but the clips."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from magictalk.data.staging import FILES, Staging
from magictalk.data.table import ClipRecord, as_json

FOLDER = "shards"
"""Of a dataset, where its shards are."""


def assign_shards(records: Sequence[ClipRecord], staging: Staging, shard_mb: float) -> list[ClipRecord]:
    """Records with the kept ones' ``shard`` filled in: in their order, each split's shards about ``shard_mb`` large."""
    filled: dict[str, list[int]] = {}  # of each split: number of the current shard, bytes in it
    out = []
    for record in records:
        if record.kept:
            number, size = filled.setdefault(record.split, [0, 0])
            bytes_ = sum((staging.clip(record.key) / f"clip.{name}").stat().st_size for name in FILES)
            if size and size + bytes_ > shard_mb * 1e6:
                number, size = number + 1, 0
            filled[record.split] = [number, size + bytes_]
            record = replace(record, shard=f"{FOLDER}/{record.split}-{number:06d}.tar")
        out.append(record)
    return out


def write_shards(records: Sequence[ClipRecord], dataset: Path, staging: Staging) -> Iterator[int]:
    """Write the shards that are not there yet, and clear each one's clips from the staging folder when it is in place.

    Yields:
        Clips in the shard just finished.
    """
    (dataset / FOLDER).mkdir(exist_ok=True)
    kept = sorted((r for r in records if r.kept), key=lambda r: r.shard)  # stable: in their order within a shard
    for name, group in groupby(kept, key=lambda r: r.shard):
        clips = list(group)
        if not (dataset / name).is_file():
            part = (dataset / name).with_name(f".{Path(name).name}.part")
            _write(part, clips, staging)
            part.replace(dataset / name)
        for clip in clips:
            shutil.rmtree(staging.clip(clip.key), ignore_errors=True)
        yield len(clips)


def _write(path: Path, clips: Sequence[ClipRecord], staging: Staging) -> None:
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for clip in clips:
                for name in FILES:
                    _add(tar, f"{clip.key}.{name}", (staging.clip(clip.key) / f"clip.{name}").read_bytes())
                _add(tar, f"{clip.key}.json", json.dumps(as_json(clip), ensure_ascii=False).encode())
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # its defaults: time 0, owner 0, mode 644
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
