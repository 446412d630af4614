"""Shards depend on nothing but the clips, and packing can be gone on with."""

import io
import json
import tarfile

import numpy as np
import pytest
import webdataset

from magictalk.data.shards import assign_shards, write_shards
from magictalk.data.sources import unique_keys
from magictalk.data.staging import Staging
from magictalk.data.table import ClipRecord


def stage(dataset, count=10, size=1000):
    """A staging folder with clips of ``size`` bytes, in two splits, the last one dropped."""
    staging = Staging(dataset)
    staging.prepare()
    rng = np.random.default_rng(0)
    records = [ClipRecord(f"c{i:02d}", "x.mp4", split=("train", "val")[i % 3 == 0]) for i in range(count)]
    records[-1] = ClipRecord("c99", "x.mp4", status="dropped", stage="face", reason="no face in sight")
    for record in records:
        folder = staging.open(record.key)
        for name in ("mp4", "wav", "npz"):
            (folder / f"clip.{name}").write_bytes(rng.bytes(size))
        staging.close(folder, record)
    return staging, records


def pack(dataset, **options):
    staging, records = stage(dataset, **options)
    records = assign_shards(records, staging, shard_mb=0.007)
    return records, list(write_shards(records, dataset, staging))


def content(dataset):
    return {p.name: p.read_bytes() for p in sorted((dataset / "shards").iterdir())}


def test_clips_fill_shards_split_by_split(tmp_path):
    records, counts = pack(tmp_path)
    assert counts == [2, 2, 2, 2, 1] and sum(r.kept for r in records) == 9
    assert sorted(content(tmp_path)) == [
        "train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar", "val-000001.tar",
    ]  # fmt: skip
    assert [r.shard for r in records if r.split == "val"] == ["shards/val-000000.tar"] * 2 + ["shards/val-000001.tar"]
    assert records[-1].shard == ""
    assert not any(Staging(tmp_path).has(r.key) for r in records if r.kept)  # packed clips are cleared away


def test_webdataset_reads_them(tmp_path):
    records, _ = pack(tmp_path)
    shards = sorted(str(p) for p in (tmp_path / "shards").iterdir())
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert sorted(s["__key__"] for s in samples) == sorted(r.key for r in records if r.kept)
    for sample in samples:
        assert {"mp4", "wav", "npz", "json"} <= set(sample)
        described = json.loads(sample["json"])
        assert described["key"] == sample["__key__"] and described["shard"].startswith(f"shards/{described['split']}")


def test_the_longest_names_fit(tmp_path):
    staging = Staging(tmp_path)
    staging.prepare()
    keys = unique_keys([f"{'deep folder/' * 20}{'long name ' * 20}{i}.mp4" for i in range(2)])
    records = [ClipRecord(f"{key}-0000", "x.mp4", split="train") for key in keys]
    for record in records:
        folder = staging.open(record.key)
        for name in ("mp4", "wav", "npz"):
            (folder / f"clip.{name}").write_bytes(b"x")
        staging.close(folder, record)
    assert sum(write_shards(assign_shards(records, staging, 1.0), tmp_path, staging)) == 2
    samples = webdataset.WebDataset(str(tmp_path / "shards" / "train-000000.tar"), shardshuffle=False)
    assert [s["__key__"] for s in samples] == [r.key for r in records]


def test_entries_carry_no_time_owner_or_place(tmp_path):
    pack(tmp_path / "a")
    pack(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    with tarfile.open(fileobj=io.BytesIO(content(tmp_path / "a")["val-000000.tar"])) as tar:
        for entry in tar:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.mode) == (0, 0, 0, "", 0o644)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_packing_goes_on_where_it_was(tmp_path, done):
    pack(tmp_path / "a")
    staging, records = stage(tmp_path / "b")
    records = assign_shards(records, staging, shard_mb=0.007)
    job = write_shards(records, tmp_path / "b", staging)
    for _ in range(done):
        next(job)
    del job
    (tmp_path / "b" / "shards").mkdir(exist_ok=True)
    unfinished = sorted(content(tmp_path / "a"))[done]
    (tmp_path / "b" / "shards" / f".{unfinished}.part").write_bytes(b"half")
    assert sum(write_shards(records, tmp_path / "b", staging)) == 9
    assert content(tmp_path / "a") == content(tmp_path / "b")
