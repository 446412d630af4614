"""Clips in several looks: what belongs together, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from magictalk.errors import OptionError
from magictalk.train import videos as module
from magictalk.train.looks import read_captions, write_captions
from magictalk.train.pictures import Clip
from magictalk.train.videos import (
    DROPPED,
    FACE_DROPPED,
    TEXT_DROPPED,
    Looking,
    Videos,
    encoded,
    gathered,
    keep,
    kept,
    videos_of,
)

SIDE = 32
LOOKING = Looking(side=SIDE, looks=2)


@pytest.fixture(scope="module")
def videos(
    vae: Any, oval_clip: Callable[..., Clip], reader: Any, nobody: Any, tmp_path_factory: pytest.TempPathFactory
) -> Videos:
    table = tmp_path_factory.mktemp("captions") / "captions.csv"
    return videos_of([oval_clip(i, frames=20) for i in range(3)], vae, reader, nobody, table, LOOKING)


def test_batches_hold_what_belongs_together(videos: Videos, vae: Any) -> None:
    batch = videos.draw(3, 4, np.random.default_rng(0), varied=False)
    assert batch.latents.shape == (3, 4, 4, 16, 16) and batch.text.shape == (3, 5, 12)
    assert batch.landmarks.shape == (3, 3, 4, SIDE, SIDE) and batch.contour.shape == (3, 3, SIDE, SIDE)
    assert batch.weight.shape == (3, 1, 4, 16, 16)
    assert batch.weight.mean((-1, -2)).numpy() == pytest.approx(1)
    assert batch.landmarks.min() == -1 and batch.landmarks.max() > 0 and (batch.contour == -1).all()
    clip = videos.clips[0]
    code = torch.nn.functional.normalize(torch.from_numpy(clip.face), dim=0) * 128**0.5
    rows = [i for i in range(3) if torch.allclose(batch.face[i], code)]
    assert rows  # the first clip was drawn, and its latents are those of its frames
    own = encoded(vae, clip.frames).float()
    for i in rows:
        assert any(torch.equal(batch.latents[i].transpose(0, 1), own[t : t + 4]) for t in range(17))


def test_latents_are_near_those_of_single_precision(vae: Any, oval_clip: Callable[..., Clip]) -> None:
    clip = oval_clip(0, frames=20)
    with torch.inference_mode():
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 127.5 - 1
        exact = vae.encode(frames).latent_dist.mode() * 2.0
    assert float((encoded(vae, clip.frames).float() - exact).abs().mean()) < 0.01 * float(exact.std())


def test_text_and_face_are_left_out_now_and_then_alone_or_together(videos: Videos) -> None:
    batch = videos.draw(1000, 1, np.random.default_rng(0))
    without_face = (batch.face == 0).all(-1)
    without_text = (batch.text == videos.empty).all(-1).all(-1)
    for which, share in (
        (without_face, 1 - (1 - DROPPED) * (1 - FACE_DROPPED)),
        (without_text, 1 - (1 - DROPPED) * (1 - TEXT_DROPPED)),
        (without_face & without_text, DROPPED + (1 - DROPPED) * FACE_DROPPED * TEXT_DROPPED),
    ):
        assert float(which.float().mean()) == pytest.approx(share, abs=0.04)


def same(one: Any, other: Any) -> bool:
    """Whether two values of records are one another's."""
    if isinstance(one, np.ndarray | torch.Tensor):
        return one.dtype == other.dtype and np.array_equal(np.asarray(one), np.asarray(other))
    return bool(one == other)


def test_what_is_kept_is_what_was_made(videos: Videos, reader: Any, tmp_path: Path) -> None:
    keep(videos, tmp_path / "kept")
    found = kept(tmp_path / "kept", reader)
    assert [len(of) for of in found.shown] == [2, 2, 2] and same(found.empty, videos.empty)
    assert found.shares == pytest.approx(videos.shares)
    for one, other in zip(chain(*videos.shown), chain(*found.shown), strict=True):
        for record, again in ((one, other), (one.clip, other.clip)):
            for name in set(vars(record)) - {"clip"}:
                assert same(getattr(record, name), getattr(again, name)), name


@pytest.fixture
def made(
    oval_clip: Callable[..., Clip], reader: Any, nobody: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """A dataset in ``tmp_path``, and for each time that clips were read out of it an entry."""
    times: list[int] = []

    def gather(*_: Any, **__: Any) -> list[Clip]:
        times.append(1)
        parts = (("train", 0), ("train", 1), ("val", 2))
        return [replace(oval_clip(i, split), heads=np.zeros((6, SIDE, SIDE), np.uint8)) for split, i in parts]

    monkeypatch.setattr(module, "gather", gather)
    monkeypatch.setattr(module, "SentenceText", lambda: reader)
    monkeypatch.setattr(module, "FaceRecogniser", lambda: nobody)
    monkeypatch.setattr(module, "need", lambda *_: None)
    (tmp_path / module.TABLE).write_bytes(b"a table")
    return times


def test_videos_are_made_once_for_all_that_learn_from_them(made: list[int], vae: Any, tmp_path: Path) -> None:
    first = gathered(tmp_path, vae, tmp_path / "one" / "captions.csv", LOOKING)
    again = gathered(tmp_path, vae, tmp_path / "two" / "captions.csv", LOOKING)
    assert len(made) == 1 and [len(v.clips) for v in again] == [2, 1]
    assert same(first[0].shown[1][1].latents, again[0].shown[1][1].latents)
    tables = [read_captions(tmp_path / name / "captions.csv") for name in ("one", "two")]
    assert tables[0] == tables[1] and len(tables[0]) == 3


def test_they_are_made_anew_where_anything_differs(made: list[int], vae: Any, tmp_path: Path) -> None:
    table = tmp_path / "one" / "captions.csv"
    gathered(tmp_path, vae, table, LOOKING)
    known = read_captions(table)
    write_captions(table, known | {"0": replace(known["0"], hair="purple")})
    edited = gathered(tmp_path, vae, table, LOOKING)
    assert len(made) == 2 and "purple" in edited[0].shown[0][0].caption
    gathered(tmp_path, vae, table, replace(LOOKING, seed=1))
    assert len(made) == 3
    other = type(vae).from_config(vae.config)
    gathered(tmp_path, other, table, LOOKING)
    assert len(made) == 4
    (tmp_path / module.TABLE).write_bytes(b"another table")
    gathered(tmp_path, vae, table, LOOKING)
    assert len(made) == 5


def test_no_looks_are_refused() -> None:
    with pytest.raises(OptionError, match="looks are 0"):
        Looking(looks=0)
