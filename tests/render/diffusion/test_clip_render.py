"""MCDM's render end to end, with a network of some ten thousand weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import magictalk
from magictalk import Motion, Portrait, Speech
from magictalk.animation import GeneratedAnimation
from magictalk.errors import OptionError, VideoError
from magictalk.motion import ARKIT
from magictalk.render.diffusion.clip_by_clip import ClipByClip
from magictalk.render.diffusion.clip_render import STATE, ClipDrawing, ClipNetworks, ClipRender, in_clips
from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.render import Drawing
from magictalk.video import read_frames

SIDE = 32
SHORT = Sampling(steps=2, guidance=1.0, shared=1.0)


@pytest.fixture(scope="module")
def portrait(astronaut: np.ndarray) -> Portrait:
    return Portrait.from_array(np.ascontiguousarray(astronaut[:300, 80:400]))


@pytest.fixture(scope="module")
def networks(clip_video: ClipByClip) -> ClipNetworks:
    mixing = torch.randn(58, 15, generator=torch.Generator().manual_seed(0))
    return ClipNetworks(clip_video, lambda rows: (rows @ mixing).unflatten(-1, (3, 5)), SIDE)


def motion(frames: int = 20) -> Motion:
    made = Motion.zeros(frames)
    made.coefficients[:, ARKIT.index("jawOpen")] = 0.6 * (np.arange(frames) % 4) / 4
    return made


def drawn(portrait: Portrait, networks: ClipNetworks, start: int = 0, work: Path | None = None, **how: Any) -> Any:
    pieces = iter([motion()[:7], motion()[7:]])
    drawing = ClipDrawing(**({"sampling": SHORT} | how))
    return np.stack(list(ClipRender(portrait, drawing, networks)(pieces, start, work)))


@pytest.mark.parametrize("init", ["rig", "noise"])
def test_motion_becomes_frames(portrait: Portrait, networks: ClipNetworks, init: str) -> None:
    frames = drawn(portrait, networks, init=init)
    assert frames.shape == (20, SIDE, SIDE, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames[18:], drawn(portrait, networks, start=18, init=init))
    if init == "noise":
        still = ClipRender(portrait, ClipDrawing(init="noise", sampling=SHORT), networks)([Motion.zeros(20)])
        assert not np.array_equal(frames, np.stack(list(still)))


def test_noise_alone_is_no_matter_of_strength(portrait: Portrait, networks: ClipNetworks) -> None:
    little = Sampling(steps=4, guidance=1.0, shared=1.0, strength=0.3)
    whole = Sampling(steps=4, guidance=1.0, shared=1.0)
    frames = [drawn(portrait, networks, init="noise", sampling=each) for each in (little, whole)]
    assert np.array_equal(*frames)


def test_a_stream_is_drawn_as_it_comes(portrait: Portrait, networks: ClipNetworks) -> None:
    asked = []

    def endless() -> Iterator[Motion]:
        while True:
            asked.append(1)
            yield motion(8)

    stream = ClipRender(portrait, ClipDrawing(sampling=SHORT), networks)(endless())
    for _ in range(16):
        next(stream)
    assert len(asked) == 2


def test_a_job_that_broke_off_goes_on(
    portrait: Portrait, networks: ClipNetworks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drawn(portrait, networks)
    render = ClipRender(portrait, ClipDrawing(sampling=SHORT), networks)
    stream = render([motion()], 0, tmp_path, "job")
    begun = [next(stream) for _ in range(3)]
    stream.close()
    assert (tmp_path / STATE).is_file()
    starts = []
    clip = ClipByClip.clip

    def counted(self: ClipByClip, carried: Any, *others: Any) -> Any:
        starts.append(carried.frame)
        return clip(self, carried, *others)

    monkeypatch.setattr(ClipByClip, "clip", counted)
    again = np.stack(list(render([motion()], 0, tmp_path, "job")))
    assert starts == [16] and np.array_equal(again, whole) and np.array_equal(np.stack(begun), whole[:3])
    other = ClipRender(portrait, ClipDrawing(sampling=SHORT, alpha=0.5), networks)
    assert len(list(other([motion()], 0, tmp_path, "job"))) == 20 and starts == [16, 0, 16]


def test_clips_are_cut_wherever_motion_is(portrait: Portrait) -> None:
    whole = np.concatenate([motion(37).coefficients, motion(37).head], 1)
    for cuts in ([0, 37], [0, 3, 20, 36, 37], [0, 16, 32, 37]):
        pieces = [motion(37)[a:b] for a, b in itertools.pairwise(cuts)]
        found = list(in_clips(pieces))
        assert [len(rows) for rows in found] == [16, 16, 5] and np.array_equal(np.concatenate(found), whole)
    assert list(in_clips([])) == []


def test_it_is_saved_as_a_video(portrait: Portrait, networks: ClipNetworks, tmp_path: Path) -> None:
    speech = Speech.from_array(np.zeros(16_000, np.float32), 16_000)
    made = magictalk.animate(
        portrait, speech, motion=motion(25), drawing=ClipDrawing(sampling=SHORT), networks=networks
    )
    assert isinstance(made, GeneratedAnimation)
    path = made.save(tmp_path / "a.mp4")
    assert len(list(read_frames(path))) == 25 and [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_what_is_kept_outlives_a_refusal(portrait: Portrait, networks: ClipNetworks, tmp_path: Path) -> None:
    made = magictalk.animate(portrait, motion=motion(5), drawing=ClipDrawing(sampling=SHORT), networks=networks)
    (tmp_path / "a.mp4").write_bytes(b"mine")
    kept = tmp_path / ".a.mp4.latents" / "frame"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(VideoError, match="exists"):
        made.save(tmp_path / "a.mp4")
    assert kept.is_file() and (tmp_path / "a.mp4").read_bytes() == b"mine"
    made.save(tmp_path / "a.mp4", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "alpha is 1.5; expected 0 to 1"),
        ({"alpha": -0.1}, "alpha is -0.1; expected 0 to 1"),
        ({"anchor": 1.5}, "anchor is 1.5; expected 0 to 1"),
        ({"prompt": "a man"}, "looks at no prompt; leave it out"),
        ({"contour": Path("a.png")}, "looks at no contour; leave it out"),
    ],
)
def test_what_cannot_be_drawn_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ClipDrawing(**options)


def test_networks_of_another_system_are_refused(portrait: Portrait, networks: ClipNetworks) -> None:
    with pytest.raises(OptionError, match="the drawing is of one system and the networks of another"):
        magictalk.animate(portrait, motion=motion(2), drawing=Drawing("a man"), networks=networks)
