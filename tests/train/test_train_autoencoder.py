from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from magictalk.errors import DatasetError
from magictalk.face.pose import Pose, canonical
from magictalk.motion import Motion
from magictalk.train import autoencoder, pictures
from magictalk.train.autoencoder import Pictures, Settings, importance, loss_of, recoloured
from magictalk.train.loop import Schedule
from magictalk.train.pictures import Clip, clip_of, gather, shares_of

SIDE = 32
Make = Callable[..., Clip]


@pytest.fixture
def settings() -> Settings:
    schedule = Schedule(200, 5e-3, warmup=10, every=20, mean=0.9, precision="no")
    return Settings(
        side=SIDE,
        window=24,
        channels=(16, 32),
        latents=4,
        batch=4,
        schedule=schedule,
        decoder=replace(schedule, every=100),
    )


def test_lips_and_eyes_count_most() -> None:
    points = Pose(np.zeros(3), np.array([64.0, 56.0]), 30.0).to_image(canonical())
    weight = importance(points, 128, 5.0)
    assert set(np.unique(weight)) == {1, 2, 5}
    mouth, nose = points[[13, 14]].mean(0).astype(int), points[4].astype(int)
    assert weight[mouth[1], mouth[0]] == 5 and weight[nose[1], nose[0]] == 2 and weight[2, 2] == 1
    eye = points[[33, 133]].mean(0).astype(int)
    assert weight[eye[1], eye[0]] == 5


def test_frames_that_are_not_seen_do_not_teach(settings: Settings, oval_clip: Make) -> None:
    clip = oval_clip(0)
    clip.frames[0] = 0
    shown, weights = Pictures([clip], settings, varied=False)(40, np.random.default_rng(0))
    assert shown.shape == (40, 3, SIDE, SIDE) and weights.shape == (40, 1, SIDE, SIDE)
    assert shown.min() > -1 and shown.max() <= 1


def test_windows_are_learnt_from_wherever_they_lie(settings: Settings, oval_clip: Make) -> None:
    shown, weights = Pictures([oval_clip(0)], settings, window=24)(60, np.random.default_rng(0))
    assert shown.shape == (60, 3, 24, 24) and weights.shape == (60, 1, 24, 24)
    assert {1.0, 4.0} <= set(np.unique(weights[:, 0, 0, 0])) | set(np.unique(weights[:, 0, 12, 12]))


def test_variations_keep_the_range_and_the_drawing() -> None:
    rng = np.random.default_rng(0)
    picture = np.float32(rng.uniform(-1, 1, (8, 8, 3)))
    others = [recoloured(picture, rng) for _ in range(20)]
    assert all(o.min() >= -1 and o.max() <= 1 and o.dtype == np.float32 for o in others)
    assert all(0.02 < np.abs(o - picture).mean() < 0.5 for o in others)
    assert all(np.corrcoef(o.mean(-1).ravel(), picture.mean(-1).ravel())[0, 1] > 0.8 for o in others)


def test_blur_costs_more_than_noise_of_the_same_size() -> None:
    torch.manual_seed(0)
    real = torch.zeros(1, 3, 32, 32)
    real[..., ::8, :] = 1.0  # lines, which a blurred copy lacks
    blurred = torch.full_like(real, float(real.mean()))
    weight = torch.ones(1, 1, 32, 32)
    shifted = real + (blurred - real).abs().mean()
    assert loss_of(blurred, real, weight) > 1.5 * loss_of(shifted, real, weight)
    assert loss_of(real, real, weight) == 0


def test_it_learns_goes_on_after_a_stop_and_knows_its_scale(
    settings: Settings, tmp_path: Path, oval_clip: Make
) -> None:
    clips = [oval_clip(i % 4, "val" if i > 5 else "train", ("people", "one")[i % 2]) for i in range(8)]
    lines: list[str] = []
    for until in (20, 40):
        broken = autoencoder.run(settings, clips, tmp_path, lines.append, until)
    unbroken = autoencoder.run(settings, clips, tmp_path / "unbroken", print, 40)
    assert all(torch.equal(a, b) for a, b in zip(broken.parameters(), unbroken.parameters(), strict=True))
    first = autoencoder.run(settings, clips, tmp_path, lines.append, settings.schedule.steps)
    vae = autoencoder.run(settings, clips, tmp_path, lines.append)
    held = [float(line.split("held out ")[1]) for line in lines]
    assert held[-1] < 0.7 * held[0]
    for part, same in (("encoder", True), ("decoder", False)):  # the second stage reads the same latents better
        pairs = zip(getattr(first, part).parameters(), getattr(vae, part).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is same
    shown, _ = Pictures(clips[6:], settings, varied=False)(8, np.random.default_rng(3))
    with torch.inference_mode():
        latents = vae.encode(shown).latent_dist.mode() * vae.config.scaling_factor
        assert latents.shape == (8, 4, 16, 16)
        copy = vae.decode(latents / vae.config.scaling_factor).sample
    assert 0.5 < float(latents.std()) < 2
    assert np.corrcoef(copy.ravel(), shown.ravel())[0, 1] > 0.5


def test_both_splits_are_needed(settings: Settings, tmp_path: Path, oval_clip: Make) -> None:
    with pytest.raises(DatasetError, match="1 clips of split train and 0 of val"):
        autoencoder.run(settings, [oval_clip(0)], tmp_path, print)


def test_the_frequent_speaker_does_not_drown_the_others(oval_clip: Make) -> None:
    clips = [oval_clip(i, kind="one") for i in range(30)] + [oval_clip(i) for i in range(30, 35)]
    shares = shares_of(clips)
    assert shares.sum() == pytest.approx(1)
    assert shares[:30].sum() == pytest.approx(0.2)


class _Sample(SimpleNamespace):
    """What pictures are made of, of a clip of the dataset."""

    def __init__(self, key: str, licence: str, identity: str = "somebody") -> None:
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:, 32:] = 200
        edges = np.zeros((64, 64), bool)
        edges[:, 32] = True
        super().__init__(
            key=key, record=SimpleNamespace(licence=licence, identity=identity, split="train"), contour=edges,
            frames=lambda: iter([picture] * 3), landmarks=np.full((3, 478, 3), 32, np.float32),
            seen=np.ones(3, bool), embedding=np.zeros(128, np.float32),
            motion=Motion.zeros(3), samples=np.zeros(1920, np.float32),
        )  # fmt: skip

    def __len__(self) -> int:
        return 3


def test_clips_are_made_small() -> None:
    clip = clip_of(_Sample("a", "open"), 16)  # type: ignore[arg-type]
    assert clip.frames.shape == (3, 16, 16, 3) and clip.frames[0, 0].tolist() == [[0] * 3] * 8 + [[200] * 3] * 8
    assert clip.points.shape == (3, 478, 2) and (clip.points == 8).all()
    assert (clip.contour[:, 8] > 0).all() and not clip.contour[:, :8].any()
    assert clip.motion is not None and clip.motion.shape == (3, 58) and not clip.motion.any()
    assert clip.heard is not None and clip.heard.shape == (3, 320)


def test_only_permitted_pixels_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [_Sample(f"one_{i}", "open", "grid_s1") for i in range(70)]
    others = [_Sample(licence, licence) for licence in ("open", "noncommercial", "web", "generated", "expression")]
    monkeypatch.setattr(pictures, "Dataset", lambda folder, split: many + others)
    clips = gather(tmp_path, 16, "train")
    assert [clip.name for clip in clips if clip.kind == "people"] == ["open", "noncommercial"]
    assert sum(clip.kind == "one" for clip in clips) == pictures.MOST_OF_ONE
    monkeypatch.setattr(pictures, "Dataset", lambda folder, split: others[2:])
    with pytest.raises(DatasetError, match="licence of open or noncommercial"):
        gather(tmp_path, 16, "train")
