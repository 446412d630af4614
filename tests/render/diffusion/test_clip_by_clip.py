"""MCDM's videos clip by clip: what is carried, and what may go on with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from magictalk.errors import MagicTalkError, OptionError
from magictalk.render.diffusion import clip_by_clip
from magictalk.render.diffusion.clip_by_clip import FRAMES, Carried, ClipByClip
from magictalk.render.diffusion.denoising import Sampling
from magictalk.render.diffusion.fusion import noise

SHORT = Sampling(steps=3, guidance=1.0, seed=3)
SHAPE = (4, 16, 16)


@pytest.fixture(scope="module")
def video(clip_video: ClipByClip) -> ClipByClip:
    return clip_video


@pytest.fixture
def reference() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def motion() -> Tensor:
    return torch.randn(40, 3, 5, generator=torch.Generator().manual_seed(2))


def clips(
    video: ClipByClip, reference: Tensor, motion: Tensor, sampling: Sampling = SHORT, **options: Any
) -> Iterator[tuple[Tensor, Carried]]:
    carried = video.begin(reference)
    for first in range(0, len(motion), FRAMES):
        made, carried = video.clip(carried, reference, motion[first : first + FRAMES], sampling, **options)
        yield made, carried


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_clip_is_denoised_as_written_out(
    video: ClipByClip, reference: Tensor, motion: Tensor, guidance: float
) -> None:
    """DDIM, guidance, the archive and one memory a step, by hand over two clips."""
    sampling = replace(SHORT, guidance=guidance)
    (first, _), (second, _) = list(clips(video, reference, motion[:32], sampling, alpha=0.4))
    video.scheduler.set_timesteps(3)
    archive, memories = reference.expand(FRAMES, *SHAPE)[None], {}
    for start, made in ((0, first), (FRAMES, second)):
        x = torch.cat(list(noise(32, SHAPE, 3)))[start : start + FRAMES].transpose(0, 1)[None]
        said = motion[start : start + FRAMES][None]
        for t in video.scheduler.timesteps:
            outs, kept = [], []
            for which, tokens in enumerate([torch.zeros_like(said), said]):
                with torch.inference_mode():
                    memory = memories.get((int(t), which))
                    found, after = video.network(x, t, reference[None], archive, tokens, memory, 0.4)
                outs.append(found)
                kept.append(after)
            for which, after in enumerate(kept):
                memories[int(t), which] = after
            epsilon = outs[1] if guidance == 1 else outs[0] + guidance * (outs[1] - outs[0])
            x = video.scheduler.step(epsilon, int(t), x).prev_sample
        assert torch.allclose(made, x[0].transpose(0, 1), atol=1e-4)
        archive = x.transpose(1, 2)


def test_a_shorter_last_clip_and_what_is_carried(video: ClipByClip, reference: Tensor, motion: Tensor) -> None:
    parts = list(clips(video, reference, motion))
    assert [len(made) for made, _ in parts] == [16, 16, 8]
    assert [carried.frame for _, carried in parts] == [16, 32, 40]
    last = parts[-1][1]
    assert torch.equal(last.archive, torch.cat([parts[1][0][8:], parts[2][0]]))  # the last sixteen frames
    with pytest.raises(ValueError, match="a clip of 17 frames; expected 1 to 16"):
        video.clip(last, reference, motion[:17], SHORT)


def test_what_is_carried_does_not_grow(video: ClipByClip, reference: Tensor, motion: Tensor) -> None:
    def size(carried: Carried) -> int:
        return carried.archive.numel() + sum(v.numel() for memory in carried.memory for v in memory.values())

    first, *rest = [size(carried) for _, carried in clips(video, reference, motion.repeat(3, 1, 1))]
    assert rest == [first] * 7


def test_a_video_goes_on_from_a_saved_state(
    video: ClipByClip, reference: Tensor, motion: Tensor, tmp_path: Path
) -> None:
    (_, after), (wanted, end) = list(clips(video, reference, motion[:32]))
    facts = video.facts(SHORT, 0.1, 0.0, 16)
    after.save(tmp_path / "state.safetensors", facts)
    again = Carried.open(tmp_path / "state.safetensors", facts)
    made, carried = video.clip(again, reference, motion[16:32], SHORT)
    assert torch.equal(made, wanted) and carried.frame == end.frame == 32
    assert [set(m) for m in carried.memory] == [set(m) for m in end.memory]


def test_what_came_before_counts(video: ClipByClip, reference: Tensor, motion: Tensor) -> None:
    _, after = next(clips(video, reference, motion))
    made, _ = video.clip(after, reference, motion[16:32], SHORT)
    for other in (
        replace(after, archive=after.archive.flip(-1)),
        replace(after, memory=tuple({name: v.flip(-1) for name, v in m.items()} for m in after.memory)),
    ):
        assert not torch.allclose(video.clip(other, reference, motion[16:32], SHORT)[0], made, atol=1e-4)


def test_an_anchor_shows_the_portrait_beside_the_archive(video: ClipByClip, reference: Tensor, motion: Tensor) -> None:
    _, after = next(clips(video, reference, motion))
    half = replace(after, archive=(after.archive + reference) / 2)
    portrait = replace(after, archive=reference.expand(FRAMES, *SHAPE))
    for anchor, shown in ((0.5, half), (1.0, portrait)):
        made, carried = video.clip(after, reference, motion[16:32], SHORT, anchor=anchor)
        assert torch.allclose(made, video.clip(shown, reference, motion[16:32], SHORT)[0], atol=1e-5)
        assert torch.equal(carried.archive, made)  # what is carried is not mixed: else it would be again and again


def test_without_history_the_portrait_stays(video: ClipByClip, reference: Tensor, motion: Tensor) -> None:
    alone = ClipByClip(video.vae, video.network, video.scheduler, history=False)
    for _, carried in clips(alone, reference, motion):
        assert torch.equal(carried.archive, reference.expand(FRAMES, *SHAPE))


def test_frames_of_another_render_are_begun_with(video: ClipByClip, reference: Tensor, motion: Tensor) -> None:
    beginning = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(5))
    kept, _ = video.clip(video.begin(reference), reference, motion[:16], replace(SHORT, strength=0.0), 0.1, beginning)
    assert torch.equal(kept, beginning)
    near, far = (
        video.clip(video.begin(reference), reference, motion[:16], replace(SHORT, strength=s), 0.1, beginning)[0]
        for s in (0.34, 1.0)
    )
    assert (near - beginning).abs().mean() < (far - beginning).abs().mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "{}"}, "is of another network"),
        ({"resolution": "32 pixels"}, "is of another resolution: 16 pixels, and this video's is 32 pixels"),
        ({"alpha": "0.5"}, "is of another alpha: 0.1, and this video's is 0.5; begin anew, or ask for the same"),
        ({"denoising": "2 of 3 steps, guidance 1"}, "is of another denoising: 3 of 3 steps, guidance 1, and"),
    ],
)
def test_a_state_of_something_else_is_refused(
    video: ClipByClip, reference: Tensor, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    facts = video.facts(SHORT, 0.1, 0.0, 16)
    video.begin(reference).save(tmp_path / "state.safetensors", facts)
    with pytest.raises(OptionError, match=message):
        Carried.open(tmp_path / "state.safetensors", facts | change)


def test_a_damaged_state_is_refused(video: ClipByClip, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"no state")
    with pytest.raises(MagicTalkError, match="holds no state of a video"):
        Carried.open(path, {})


def test_memory_that_runs_out_is_said(
    video: ClipByClip, reference: Tensor, motion: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(clip_by_clip.ClipByClip, "_step", full)
    with pytest.raises(MagicTalkError, match="out of memory with a clip of 16 frames"):
        video.clip(video.begin(reference), reference, motion[:16], SHORT)


def test_noise_is_of_the_frames_number(video: ClipByClip) -> None:
    whole, later = (np.stack([x.numpy() for x in noise(n, SHAPE, 3, 0.5, first)]) for n, first in ((20, 0), (4, 16)))
    assert np.array_equal(whole[16:], later)
