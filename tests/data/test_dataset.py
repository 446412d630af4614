import io
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from magictalk.data.dataset import Dataset
from magictalk.data.table import ClipRecord
from magictalk.errors import DatasetError
from magictalk.video import VideoWriter, read_frames

Write = Callable[..., Path]

RECORDS = [
    *(ClipRecord(f"t{i}", f"t{i}.mp4", identity=f"p{i}", split="train", duration=0.4 + 0.2 * i) for i in range(5)),
    ClipRecord("v0", "v0.mp4", identity="q", split="val", duration=4.8),
    ClipRecord("bad", "bad.mp4", status="dropped", stage="face", reason="several faces", duration=3.0),
]


@pytest.fixture(scope="module")
def pristine(write_dataset: Write) -> Path:
    return write_dataset(RECORDS)


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(pristine, tmp_path / "copy")


def _replace_file(shard: Path, name: str, content: bytes | None) -> None:
    """Another content for one file of a shard, or none at all."""
    with tarfile.open(shard) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    with tarfile.open(shard, "w") as tar:
        for key, old in files.items():
            new = content if key == name else old
            if new is not None:
                entry = tarfile.TarInfo(key)
                entry.size = len(new)
                tar.addfile(entry, io.BytesIO(new))


def test_kept_clips_come_in_the_tables_order_with_all_that_was_written(dataset: Path) -> None:
    everything = Dataset(dataset)
    assert len(everything) == 6
    assert [s.key for s in everything] == [r.key for r in everything.records] == ["t0", "t1", "t2", "t3", "t4", "v0"]
    sample = next(iter(Dataset(dataset, "val")))
    assert sample.record.identity == "q" and sample.record.shard == "shards/val-000000.tar"
    assert len(sample) == 120 and sample.samples.shape == (76800,)
    assert np.allclose(sample.samples[:80], 0.5 * np.sin(2 * np.pi * 200 * np.arange(80) / 16000), atol=1e-4)
    assert sample.landmarks.shape == (120, 478, 3) and sample.seen.all()
    assert sample.motion.coefficients.shape == (120, 52) and sample.motion.fps == 25
    assert np.allclose(sample.pose.to_image(sample.neutral), sample.landmarks[..., :2], atol=1e-4)
    assert (sample.contour == np.eye(64, dtype=bool)).all()
    assert sample.lip_box[7].tolist() == [16, 40, 32, 16] and sample.expression_box.shape == (120, 4)
    assert sample.embedding.shape == (128,) and sample.embedding.dtype == np.float32


@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 3), (49, 52), (50, 51), (77, None), (119, 400), (5, 5)])
def test_any_frames_of_the_video_are_decoded(dataset: Path, start: int, stop: int | None) -> None:
    sample = next(iter(Dataset(dataset, "val")))
    frames = list(sample.frames(start, stop))
    wanted = range(120)[start:stop]
    assert len(frames) == len(wanted)
    for i, frame in zip(wanted, frames, strict=True):
        assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
        assert abs(frame.mean() - (6 * (i % 40) + 8)) < 2.5


def test_colours_are_those_of_the_file(tmp_path: Path, pristine: Path, astronaut: np.ndarray) -> None:
    path = tmp_path / "astronaut.mp4"
    with VideoWriter(path) as writer:
        for i in range(4):
            writer.write(astronaut[i : 256 + i, :256])
    sample = replace(next(iter(Dataset(pristine, "val"))), video=path.read_bytes())
    assert all((a == b).all() for a, b in zip(sample.frames(0, 4), read_frames(path), strict=True))


def test_a_seed_shuffles_anew_each_epoch_and_loses_nothing(dataset: Path) -> None:
    pipeline = Dataset(dataset).pipeline(seed=3)
    epochs = [[s.key for s in pipeline] for _ in range(4)]
    assert all(sorted(keys) == ["t0", "t1", "t2", "t3", "t4", "v0"] for keys in epochs)
    assert len({tuple(keys) for keys in epochs}) > 1
    again = Dataset(dataset).pipeline(seed=3)
    assert [[s.key for s in again] for _ in range(4)] == epochs


@pytest.mark.parametrize("seed", [None, 0])
def test_workers_of_a_loader_share_the_clips(dataset: Path, seed: int | None) -> None:
    from torch.utils.data import DataLoader

    loader = DataLoader(Dataset(dataset, "train").pipeline(seed), batch_size=None, num_workers=2)
    assert sorted(s.key for s in loader) == ["t0", "t1", "t2", "t3", "t4"]


def test_a_folder_that_is_no_finished_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder at"):
        Dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no table at .*clips\.parquet"):
        Dataset(tmp_path / "empty")
    (dataset / ".work").mkdir()
    with pytest.raises(DatasetError, match="half built; run the same"):
        Dataset(dataset)


def test_a_split_without_clips_is_refused(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="no clip in split 'test'; it has train, val"):
        Dataset(dataset, "test")


def test_nothing_kept_is_refused(write_dataset: Write) -> None:
    with pytest.raises(DatasetError, match="no clip in it; it has no clip at all"):
        Dataset(write_dataset([ClipRecord("bad", "bad.mp4", status="dropped")]))


def test_a_missing_shard_is_named_at_once(dataset: Path) -> None:
    (dataset / "shards" / "train-000001.tar").unlink()
    with pytest.raises(DatasetError, match=r"train-000001\.tar is missing"):
        Dataset(dataset)
    assert len(list(Dataset(dataset, "val"))) == 1


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6])
def test_a_shard_cut_off_is_named(dataset: Path, part: float) -> None:
    shard = dataset / "shards" / "val-000000.tar"
    os.truncate(shard, int(part * shard.stat().st_size) // 512 * 512 + 100 * (part > 0))
    with pytest.raises(DatasetError, match=r"val-000000\.tar") as caught:
        list(Dataset(dataset, "val"))
    assert "\n" not in str(caught.value)


def test_rubbish_instead_of_a_shard_is_named(dataset: Path) -> None:
    (dataset / "shards" / "val-000000.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DatasetError, match=r"val-000000\.tar"):
        list(Dataset(dataset, "val"))


def test_a_clip_that_a_shard_lacks_is_named(dataset: Path) -> None:
    shard = dataset / "shards" / "train-000000.tar"
    for suffix in ("mp4", "wav", "npz", "json"):
        _replace_file(shard, f"t1.{suffix}", None)
    with pytest.raises(DatasetError, match="lacks clip t1"):
        list(Dataset(dataset, "train"))


def test_damaged_files_of_a_clip_are_named(dataset: Path) -> None:
    shard = dataset / "shards" / "val-000000.tar"
    whole = shard.read_bytes()
    pickled = io.BytesIO()
    np.savez(pickled, landmarks=np.array([{"a": 1}], dtype=object))
    for name, content in [
        ("v0.npz", None), ("v0.npz", b"PK"), ("v0.npz", pickled.getvalue()), ("v0.wav", b"RIFF"), ("v0.mp4", None),
    ]:  # fmt: skip
        _replace_file(shard, name, content)
        with pytest.raises(DatasetError, match=r"clip v0 in shards/val-000000\.tar is damaged"):
            list(Dataset(dataset, "val"))
        shard.write_bytes(whole)


@pytest.mark.parametrize("cut", [10, 2500])
def test_a_damaged_video_is_told_while_decoding(dataset: Path, cut: int) -> None:
    shard = dataset / "shards" / "val-000000.tar"
    with tarfile.open(shard) as tar:
        video = tar.extractfile("v0.mp4").read()
    _replace_file(shard, "v0.mp4", video[:cut])
    sample = next(iter(Dataset(dataset, "val")))
    with pytest.raises(DatasetError, match="video of clip v0"):
        list(sample.frames())
