from __future__ import annotations

from itertools import count, islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from magictalk.errors import OptionError
from magictalk.render.diffusion.fusion import Latents, Segments, blend, fuse, noise


def whole(latents: Tensor, segments: Segments, denoise, batch: int = 1) -> Tensor:  # type: ignore[no-untyped-def]
    return torch.cat(list(fuse(lambda a, b: latents[a:b], segments, denoise, batch)))


def test_equations_4_and_5_by_hand() -> None:
    """N = 4, C = 2, six frames: the first segment says 1, the second 5; alpha is 0 and 1/2."""
    segments = Segments(6, 4, 2)
    assert segments.starts() == [0, 2]
    said = {0: 1.0, 2: 5.0}
    out = whole(torch.zeros(6, 1), segments, lambda x, starts: torch.stack([x[0] + said[s] for s in starts]))
    assert out[:, 0].tolist() == [1, 1, 1, 3, 5, 5]


def test_at_the_overlaps_ends_one_segment_decides() -> None:
    before, after = torch.zeros(8, 2, 3), torch.ones(8, 2, 3)
    mixed = blend(before, after)
    assert (mixed[0] == 0).all()
    assert torch.allclose(mixed[:, 0, 0], torch.arange(8) / 8)


cuts = st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(1, 60), st.just(n), st.integers(0, n - 1)))


@settings(deadline=None)
@given(cuts)
def test_segments_cover_every_frame_and_end_with_the_video(cut: tuple[int, int, int]) -> None:
    segments = Segments(*cut)
    starts = segments.starts()
    assert starts[0] == 0 and starts[-1] + segments.size == segments.length
    shared = [a + segments.size - b for a, b in pairwise(starts)]
    assert all(segments.overlap <= s < segments.size for s in shared)
    assert all(s == segments.overlap for s in shared[:-1])


@settings(deadline=None)
@given(cuts, st.integers(1, 4))
def test_fusion_is_the_weighted_sum_that_the_equations_give(cut: tuple[int, int, int], batch: int) -> None:
    """Against a matrix of every segment's weight in every frame, built segment by segment in float64."""
    segments = Segments(*cut)
    starts, size = segments.starts(), segments.size
    weights = np.zeros((segments.length, len(starts)))
    for k, start in enumerate(starts):
        end = starts[k - 1] + size if k else start
        for frame in range(start, start + size):
            alpha = (frame - start) / (end - start) if frame < end else 1.0
            weights[frame] *= 1 - alpha
            weights[frame, k] = alpha
    assert np.allclose(weights.sum(1), 1)
    values = torch.randn(len(starts), size, 2, generator=torch.Generator().manual_seed(sum(cut)))
    out = whole(
        torch.zeros(segments.length, 2), segments, lambda x, some: values[[starts.index(s) for s in some]], batch
    )
    expected = np.zeros((segments.length, 2))
    for k, start in enumerate(starts):
        expected[start : start + size] += weights[start : start + size, k, None] * values[k].double().numpy()
    assert np.allclose(out, expected, atol=1e-5)


@settings(deadline=None)
@given(cuts, st.integers(1, 4))
def test_frames_that_do_not_look_at_each_other_do_not_notice(cut: tuple[int, int, int], batch: int) -> None:
    latents = torch.randn(cut[0], 3, generator=torch.Generator().manual_seed(0))
    out = whole(latents, Segments(*cut), lambda x, starts: x.sin() * 2, batch)
    assert torch.allclose(out, latents.sin() * 2, atol=1e-6)


def test_one_segment_that_covers_the_video_is_one_run() -> None:
    def look_at_all(x: Tensor, starts: object) -> Tensor:
        return x + x.mean(1, keepdim=True) ** 2

    latents = torch.randn(16, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole(latents, Segments(16), look_at_all), look_at_all(latents[None], None)[0])


def test_segments_read_latents_as_they_were_before_the_step() -> None:
    seen = []

    def note(x: Tensor, starts: list[int]) -> Tensor:
        seen.extend(x.clone())
        return x * 0

    latents = torch.arange(40.0)[:, None]
    whole(latents, Segments(40, 8, 6), note, 2)
    assert all(torch.equal(x, latents[s : s + 8]) for x, s in zip(seen, Segments(40, 8, 6).starts(), strict=True))


@pytest.mark.parametrize(("cut", "message"), [((10, 8, 8), "overlap by 8; expected 0 to 7"), ((0,), "has 0 frames")])
def test_what_cannot_be_cut_is_said(cut: tuple[int, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Segments(*cut)


class TestLatents:
    def test_a_video_is_denoised_on_the_disk_and_taken_up_where_it_was(self, tmp_path: Path) -> None:
        shape, segments = (2, 3, 3), Segments(50, 8, 4)

        def denoise(x: Tensor, starts: list[int]) -> Tensor:
            return x * 0.9 + x.mean(1, keepdim=True)

        def run(latents: Latents, steps: int, until: int) -> None:
            if latents.done is None:
                latents.keep(0, noise(50, shape, 7))
            for step in range(int(latents.done or 0), min(until, steps)):
                latents.keep(step + 1, fuse(latents.read, segments, denoise, 3))

        run(first := Latents(tmp_path / "a", shape, "job"), 5, 5)
        run(Latents(tmp_path / "b", shape, "job"), 5, 2)
        (tmp_path / "b" / "step-3.f32.part").write_bytes(b"broken off")
        run(again := Latents(tmp_path / "b", shape, "job"), 5, 5)
        assert first.done == again.done == 5
        assert torch.equal(first.read(0, 50), again.read(0, 50))
        plain = torch.cat(list(noise(50, shape, 7)))
        for _ in range(5):
            plain = whole(plain, segments, denoise)
        assert torch.allclose(first.read(0, 50), plain, atol=1e-6)
        assert first.read(13, 17).equal(first.read(0, 50)[13:17])
        assert [path.name for path in (tmp_path / "a").glob("step-*")] == ["step-5.f32"]

    def test_another_job_begins_anew(self, tmp_path: Path) -> None:
        Latents(tmp_path, (1,), "one").keep(0, noise(3, (1,), 0))
        assert Latents(tmp_path, (1,), "one").done == 0
        assert Latents(tmp_path, (1,), "another").done is None

    def test_an_hour_is_streamed(self, tmp_path: Path) -> None:
        """Nothing is asked for before it is needed, and nothing is kept after."""
        asked = count()
        stream = fuse(lambda a, b: torch.full((b - a, 1), float(next(asked))), Segments(90_000), lambda x, s: x)
        assert len(torch.cat(list(islice(stream, 10)))) == 80
        assert next(asked) == 11


def test_noise_depends_on_the_frame_not_on_the_length() -> None:
    short, long = (torch.cat(list(noise(n, (2, 2), 3))) for n in (5, 9))
    assert torch.equal(short, long[:5])
    assert not torch.equal(long[0], long[1])
    assert not torch.equal(short, torch.cat(list(noise(5, (2, 2), 4))))


@given(st.floats(0, 1))
def test_frames_share_so_much_of_their_noise_and_it_stays_as_strong(shared: float) -> None:
    one, other = (x.flatten() for x in noise(2, (4, 50, 50), 3, shared))
    covariance = torch.cov(torch.stack([one, other]))
    assert torch.allclose(covariance.diagonal(), torch.ones(2), atol=0.06)
    assert float(covariance[0, 1]) == pytest.approx(shared, abs=0.06)
    if shared == 1:
        assert torch.equal(one, other)
