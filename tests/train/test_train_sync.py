import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from magictalk.data import conform
from magictalk.data.table import TABLE, ClipRecord, as_json, write_table
from magictalk.errors import DatasetError
from magictalk.face.landmarks import FaceDetector
from magictalk.face.rig import Rig
from magictalk.motion import ARKIT
from magictalk.sync import CROP, LIPS, SyncExpert, SyncJudge, compare
from magictalk.train import sync
from magictalk.train.mouths import render_mouths, spoil_pictures
from magictalk.train.sync import Clip, Excerpts, Settings

SMALL = {"ear_width": 16, "lips_width": 16, "eye_width": 4, "seen": 8, "dimensions": 8}
JAW = LIPS.index(ARKIT.index("jawOpen"))


def _clip(seed: int, frames: int = 120, offset: int = 0, licence: str = "open", one: bool = False) -> Clip:
    """A person whose jaw opens with the sound ``offset`` frames later, in the picture too."""
    rng = np.random.default_rng(seed)
    total = frames + 40
    loud = np.repeat(rng.random(total // 4 + 1) > 0.5, 4)[:total].astype(np.float32)
    sound = (0.1 * np.repeat(loud, 640) * rng.normal(size=total * 640)).astype(np.float32)[20 * 640 : -20 * 640]
    jaw = np.convolve(loud, [0.25, 0.5, 0.25], "same")[20 + offset : 20 + offset + frames].astype(np.float32)
    coefficients = np.zeros((frames, len(LIPS)), np.float32)
    coefficients[:, JAW] = 0.4 * jaw
    rows = np.arange(CROP[0])[None, :, None]
    inside = np.abs(rows - CROP[0] // 2) <= 2 + 12 * jaw[:, None, None]
    crops = np.where(inside, 40, 180).astype(np.uint8).repeat(CROP[1], 2)
    return Clip(
        f"{seed}", "one" if one else f"person {seed}", licence, coefficients, crops, sound, np.ones(frames, bool)
    )


def test_no_person_drowns_the_others() -> None:
    clips = [_clip(i, one=i < 30) for i in range(40)]
    chance = sync.shares(clips)
    assert chance.sum() == pytest.approx(1)
    assert chance[:30].sum() == pytest.approx(sync.MOST_OF_ONE, abs=0.01)
    assert np.allclose(chance[30:], chance[30])


def test_left_and_right_change_places() -> None:
    places = sync.mirrored()
    names = [ARKIT[i] for i in LIPS]
    assert [places[i] for i in places] == list(range(len(LIPS)))
    assert names[places[names.index("mouthSmileLeft")]] == "mouthSmileRight"
    assert names[places[names.index("jawLeft")]] == "jawRight"
    assert places[JAW] == JAW


def test_the_median_of_weighted_values() -> None:
    assert sync.weighted_median([3.0, 1.0, 2.0], np.array([0.2, 0.2, 0.6])) == 2.0
    assert sync.weighted_median([3.0, 1.0, 2.0], np.array([0.1, 0.8, 0.1])) == 1.0


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.12])
@pytest.mark.parametrize("offset", [-3, 0, 4])
def test_a_variant_moves_the_sound_to_the_mouth(speed: float, offset: int) -> None:
    clip = replace(_clip(1, offset=offset), offset_s=offset / 25)
    v = sync.vary(clip, speed, False, np.random.default_rng(0), [])
    assert len(v.lips) == len(v.frames) == len(v.seen) == int(120 / speed)
    assert v.mel.shape == (4 * len(v.lips) + 16, 80)
    loud = v.mel[8:-8].reshape(-1, 4, 80).mean((1, 2))
    r = [np.corrcoef(np.roll(loud, k)[v.seen], v.lips[v.seen, JAW])[0, 1] for k in (-3, -2, -1, 0, 1, 2, 3)]
    assert abs(int(np.argmax(r)) - 3) <= 1 and r[3] > 0.8
    assert v.seen.mean() > 0.9 and (v.seen.all() or offset)


def test_the_loss_is_least_when_mouth_and_sound_agree() -> None:
    expert = SyncExpert(**SMALL)
    rng = torch.Generator().manual_seed(0)
    sound = torch.nn.functional.normalize(torch.randn(3, 30, 8, generator=rng), dim=-1)
    seen = torch.ones(3, 30, dtype=torch.bool)
    best = sync.sync_loss(expert, sound, sound, seen)
    for other in (sound.roll(4, 1), sound.flip(1), sound.roll(1, 0)):
        assert sync.sync_loss(expert, other, sound, seen) > best + 0.5
    # what is not seen does not count
    seen[:, 10:] = False
    broken = sound.clone()
    broken[:, 10:] = sound[:, 10:].roll(3, 1)
    assert torch.allclose(sync.sync_loss(expert, broken, sound, seen), sync.sync_loss(expert, sound, sound, seen))


def test_excerpts_have_one_length_and_pictures_of_their_frames() -> None:
    clips = [_clip(0), _clip(1, frames=30), replace(_clip(2), crops=None)]
    settings = Settings(frames=50, variants=1)
    mel, lips, seen, pictures = Excerpts(clips, settings, np.random.default_rng(0))(24)
    assert mel.shape == (24, 216, 80) and lips.shape == (24, 50, len(LIPS)) and seen.shape == (24, 50)
    assert 0 < len(pictures) < 24 and all(p.shape == (50, *CROP) for p in pictures)
    assert (seen.sum(1) < 50).any()


def test_spoiled_pictures_still_show_the_mouth() -> None:
    crops = _clip(3).crops
    assert crops is not None
    one, two = (spoil_pictures(crops, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, two) and one.shape == crops.shape and one.dtype == np.uint8
    for seed in range(8):
        spoiled = spoil_pictures(crops, np.random.default_rng(seed))
        assert not np.array_equal(spoiled, crops)
        r = np.corrcoef(spoiled.mean((1, 2)), crops.mean((1, 2)))[0, 1]
        assert r > 0.8, seed


def test_a_face_carries_anothers_mouth(astronaut: np.ndarray) -> None:
    detector = FaceDetector()
    face = detector(astronaut)[0]
    coefficients = np.zeros((2, 52), np.float32)
    coefficients[1, ARKIT.index("jawOpen")] = 0.7
    crops = render_mouths(astronaut, face.landmarks, coefficients, detector)
    assert crops is not None and crops.shape == (2, *CROP)
    changed = np.abs(crops[1].astype(int) - crops[0]).mean(1)
    assert changed[24:56].mean() > 4 * changed[:8].mean()
    assert render_mouths(np.full_like(astronaut, 128), face.landmarks, coefficients, detector) is None


def test_hidden_offsets_are_found_and_the_rest_is_learnt() -> None:
    torch.set_num_threads(1)
    clips = [_clip(i, frames=90, offset=0 if i % 4 else 3) for i in range(20)]
    lines: list[str] = []
    settings = Settings(
        network=SMALL,
        rounds=1,
        align_steps=80,
        steps=80,
        picture_steps=40,
        batch=5,
        picture_batch=3,
        frames=40,
        variants=1,
    )
    drawn: list[list[Clip]] = []

    def draw(aligned: list[Clip]) -> list[Clip]:
        drawn.append(aligned)
        return [replace(c, licence="open", key=f"{c.key} rendered") for c in aligned[:2]]

    expert = sync.train(settings, clips, draw, lines.append)
    moved = {c.key: c.offset_s * 25 for c in drawn[0]}
    assert len(moved) >= 16
    assert np.median([moved[k] for k in moved if int(k) % 4]) == pytest.approx(0, abs=0.8)
    assert np.median([moved[k] for k in moved if not int(k) % 4]) == pytest.approx(3, abs=1)
    judge = SyncJudge(expert)
    unseen = [_clip(100 + i) for i in range(4)]
    assert sync.accuracy(judge, unseen) > 0.9
    for clip in unseen:
        assert clip.crops is not None
        assert abs(compare(judge.cosines_of_crops(clip.crops, clip.samples)).offset_s) < 0.05


def test_pixels_of_other_licences_are_neither_read_nor_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(sync, "Excerpts", lambda clips, *_: given.extend(c.licence for c in clips) or _stop)
    licences = ("open", "web", "noncommercial", "generated")
    clips = [_clip(i, licence=licence) for i, licence in enumerate(licences)]
    with pytest.raises(StopIteration):
        sync.teach_eye(SyncExpert(**SMALL), clips, Settings(), print, 0)
    assert given == ["open", "noncommercial"]


def _stop(batch: int) -> None:
    raise StopIteration


@pytest.fixture
def dataset(tmp_path: Path, astronaut: np.ndarray) -> Path:
    """Two people of two seconds: the first may teach by pixels, the second not."""
    face = FaceDetector()(astronaut)[0]
    landmarks = np.repeat(face.landmarks[None], 50, 0)
    samples = (0.1 * np.random.default_rng(0).normal(size=32000)).astype(np.float32)
    folder, records = tmp_path / "dataset", []
    (folder / "shards").mkdir(parents=True)
    with tarfile.open(folder / "shards" / "train-000000.tar", "w") as tar:
        for key, licence in (("a", "noncommercial"), ("b", "web")):
            shard = "shards/train-000000.tar"
            record = ClipRecord(
                key, f"{key}.mp4", duration=2.0, identity=key, split="train", licence=licence, shard=shard
            )
            conform.write_video(tmp_path / f"{key}.mp4", [astronaut] * 50, 512, samples)
            conform.write_sound(tmp_path / f"{key}.wav", samples)
            fit = Rig.load().fit_video(landmarks)
            arrays = conform.annotate(landmarks, fit, np.zeros(128, np.float32), astronaut)
            np.savez_compressed(tmp_path / f"{key}.npz", **arrays)
            (tmp_path / f"{key}.json").write_text(json.dumps(as_json(record)))
            for suffix in ("mp4", "wav", "npz", "json"):
                tar.add(tmp_path / f"{key}.{suffix}", f"{key}.{suffix}")
            records.append(record)
    write_table(records, folder / TABLE)
    return folder


def test_a_dataset_gives_clips_faces_and_rendered_mouths(dataset: Path) -> None:
    first, second = sync.gather(dataset, "train")
    assert (first.identity, first.licence, second.licence) == ("a", "noncommercial", "web")
    assert first.coefficients.shape == (50, len(LIPS)) and len(first.samples) == 32000
    assert first.crops is not None and first.crops.shape == (50, *CROP)
    assert second.crops is None  # never looked at
    people = sync.faces(dataset)
    assert len(people) == 1 and people[0][2] == "noncommercial"
    rendered = sync.render([first, replace(second, offset_s=0.08)], people, np.random.default_rng(0))
    assert len(rendered) == 2 and all(r.licence == "noncommercial" for r in rendered)
    assert all(r.crops is not None and len(r.crops) == len(r.coefficients) == 50 for r in rendered)
    assert rendered[0].offset_s == pytest.approx(0.08)


def test_what_cannot_teach_is_said_before_any_training(dataset: Path) -> None:
    with pytest.raises(DatasetError, match="val"):
        sync.run(dataset, dataset / "out", 0, pytest.fail)
    assert not (dataset / "out").exists()
