"""Two videos side by side: cut to the shorter, resized to the reference, whatever their lengths, sizes and rates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.errors import VideoError
from magictalk.metrics.footage import CHUNK, Footage, side_by_side
from magictalk.video import VideoWriter


def numbered(count: int, height: int = 8, width: int = 12) -> Footage:
    """Frames whose every pixel is their number."""
    return Footage("a.mp4", lambda: (np.full((height, width, 3), t, np.uint8) for t in range(count)))


@settings(deadline=None)
@given(st.integers(1, 80), st.integers(1, 80))
def test_frames_are_paired_from_the_beginning_and_cut_to_the_shorter(ours, theirs):
    remarks: list[str] = []
    chunks = list(side_by_side(numbered(ours), numbered(theirs), remarks.append))
    both = min(ours, theirs)
    assert [c.first for c in chunks] == list(range(0, both, CHUNK)) and max(map(len, chunks)) <= CHUNK
    for video in ("generated", "reference"):
        frames = np.concatenate([getattr(c, video) for c in chunks])
        assert frames[:, 0, 0, 0].tolist() == list(range(both))
    assert len(remarks) == (max(ours, theirs) - both > math.floor(0.1 * both))


@given(st.integers(1, 40))
def test_alone_a_video_is_read_whole(count):
    chunks = list(side_by_side(numbered(count), None, pytest.fail))
    assert sum(map(len, chunks)) == count and all(c.reference is None for c in chunks)


@pytest.mark.parametrize(("size", "remarked"), [((4, 6), 0), ((40, 60), 0), ((8, 8), 1), ((9, 12), 1)])
def test_the_generated_is_resized_to_the_reference(size, remarked):
    remarks: list[str] = []
    (chunk,) = side_by_side(numbered(5, *size), numbered(5), remarks.append)
    assert chunk.generated.shape == chunk.reference.shape == (5, 8, 12, 3)
    assert (chunk.generated == chunk.reference).all()
    assert len(remarks) == remarked and all("stretched" in remark for remark in remarks)


@pytest.mark.parametrize(("ours", "theirs"), [(0, 3), (3, 0), (0, None)])
def test_no_frame_is_an_error(ours, theirs):
    with pytest.raises(VideoError, match=r"a.mp4 holds no frame"):
        list(side_by_side(numbered(ours), None if theirs is None else numbered(theirs), pytest.fail))


def test_rates_are_brought_to_one_grid(tmp_path):
    for fps in (25, 50, 15):
        with VideoWriter(tmp_path / f"{fps}.mp4", fps=fps) as video:
            for t in range(2 * fps):
                video.write(np.full((64, 64, 3), 40 + 80 * t // fps, np.uint8))
    reference = Footage.open(tmp_path / "25.mp4")
    for fps in (50, 15):
        chunks = list(side_by_side(Footage.open(tmp_path / f"{fps}.mp4"), reference, pytest.fail))
        assert sum(map(len, chunks)) == 50
        apart = [np.abs(c.generated.astype(int) - c.reference).max() for c in chunks]
        assert max(apart) <= 8  # a frame of the slower one lasts so long


def test_an_open_file_knows_its_sound(tmp_path):
    with VideoWriter(tmp_path / "mute.mp4") as video:
        video.write(np.zeros((64, 64, 3), np.uint8))
    footage = Footage.open(tmp_path / "mute.mp4")
    assert footage.speech is None and footage.name == "mute.mp4"
