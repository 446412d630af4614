"""A dataset made by hand, so that reading is tested against the format and not against the writer."""

import io
import json
import tarfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from magictalk.data.table import ClipRecord, as_json, write_table
from magictalk.face.pose import Pose, canonical
from magictalk.video import VideoWriter

SIZE = 64


def _frames(record: ClipRecord) -> np.ndarray:
    """Grey levels that tell the frame's number, 6 apart."""
    count = round(record.duration * 25)
    return np.broadcast_to((6 * (np.arange(count) % 40) + 8)[:, None, None, None], (count, SIZE, SIZE, 3)).astype("u1")


def _mp4(record: ClipRecord, folder: Path) -> bytes:
    path = folder / f"{record.key}.mp4"
    with VideoWriter(path) as writer:
        for frame in _frames(record):
            writer.write(frame)
    return path.read_bytes()


def _wav(record: ClipRecord) -> bytes:
    time = np.arange(round(record.duration * 16000)) / 16000
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((32767 * 0.5 * np.sin(2 * np.pi * 200 * time)).round().astype("<i2").tobytes())
    return buffer.getvalue()


def _npz(record: ClipRecord, embedding: np.ndarray) -> bytes:
    count = round(record.duration * 25)
    pose = Pose(np.zeros((count, 3)), np.full((count, 2), SIZE / 2), np.full(count, SIZE / 4), np.zeros(count))
    points = np.concatenate([pose.to_image(canonical()), np.zeros((count, 478, 1))], -1)
    arrays = {
        "landmarks": points,
        "coefficients": np.full((count, 52), 0.25),
        "head": np.zeros((count, 6)),
        "rotation": pose.rotation,
        "origin_px": pose.origin_px,
        "scale_px": pose.scale_px,
        "depth_px": pose.depth_px,
        "neutral": canonical(),
        "lip_box": np.tile([16, 40, 32, 16], (count, 1)),
        "expression_box": np.tile([8, 8, 48, 20], (count, 1)),
        "embedding": embedding,
    }
    buffer = io.BytesIO()
    contour = np.packbits(np.eye(SIZE, dtype=bool), axis=1)
    floats = {name: np.asarray(values, np.float32) for name, values in arrays.items()}
    np.savez_compressed(buffer, seen=np.ones(count, bool), contour=contour, **floats)
    return buffer.getvalue()


def _pack(shard: Path, files: Sequence[tuple[str, bytes]]) -> None:
    shard.parent.mkdir(exist_ok=True)
    with tarfile.open(shard, "w") as tar:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="session")
def write_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes records as a dataset: kept ones into shards of two clips a split, all into the table."""

    def write(records: Sequence[ClipRecord], embeddings: dict[str, np.ndarray] | None = None) -> Path:
        folder, scratch = tmp_path_factory.mktemp("dataset"), tmp_path_factory.mktemp("scratch")
        table, number = [], {"": 0}
        for record in records:
            n = number.setdefault(record.split, 0)
            number[record.split] += record.kept
            table.append(replace(record, shard=f"shards/{record.split}-{n // 2:06d}.tar") if record.kept else record)
        kept = sorted((r for r in table if r.kept), key=lambda r: r.shard)
        for shard, clips in groupby(kept, key=lambda r: r.shard):
            files = []
            for clip in clips:
                embedding = (embeddings or {}).get(clip.key, np.zeros(128))
                files += [
                    (f"{clip.key}.mp4", _mp4(clip, scratch)),
                    (f"{clip.key}.wav", _wav(clip)),
                    (f"{clip.key}.npz", _npz(clip, embedding)),
                    (f"{clip.key}.json", json.dumps(as_json(clip)).encode()),
                ]
            _pack(folder / shard, files)
        write_table(table, folder / "clips.parquet")
        return folder

    return write
