"""The stage: heads of one size within the picture, panels in a row, cuts to who speaks."""

import numpy as np
import pytest

from magictalk import Portrait, Speech
from magictalk.dialogue.stage import Shots, SideBySide, cuts_of, frame_portraits
from magictalk.dialogue.turns import Turn
from magictalk.errors import OptionError
from magictalk.face.landmarks import FaceDetector

STILL = np.zeros(52, np.float32), np.zeros(6, np.float32)


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def portraits(astronaut, detector) -> list[Portrait]:
    """One with much around the face, one close, one far and on the left."""
    wide = np.pad(astronaut, ((0, 0), (0, 300), (0, 0)), mode="edge")
    pictures = astronaut, astronaut[20:260, 110:330], wide
    return [Portrait.from_array(np.ascontiguousarray(p), detector=detector) for p in pictures]


@pytest.mark.parametrize("layout", ["side-by-side", "shots"])
def test_heads_are_of_one_size_and_whole(portraits, layout):
    framed = frame_portraits(portraits, layout, 256)
    assert len({p.image.shape for p in framed}) == 1 and framed[0].image.shape[0] == 256
    heights = [p.face.box[3] for p in framed]
    assert max(heights) / min(heights) < 1.05
    for p in framed:
        x, y, w, h = p.face.box
        assert x >= 0 and y >= 0 and x + w <= p.image.shape[1] and y + h <= 256


def test_shots_are_as_wide_as_the_narrowest_picture(portraits):
    both = frame_portraits([portraits[0], portraits[2]], "shots", 256)[0].image
    assert both.shape[1] / 256 > 1.5
    assert frame_portraits(portraits, "shots", 256)[0].image.shape[1] < both.shape[1]


def test_the_face_is_where_the_cut_portrait_says(portraits, detector):
    """Found again in the cut picture, landmarks and pose are the same as carried over."""
    for framed in frame_portraits(portraits, "side-by-side", 384):
        again = Portrait.from_array(framed.image, detector=detector)
        width = framed.face.box[2]
        assert np.abs(again.landmarks - framed.landmarks)[:, :2].mean() < 0.02 * width
        assert np.abs(again.pose.origin_px - framed.pose.origin_px).max() < 0.03 * width
        assert again.pose.scale_px == pytest.approx(framed.pose.scale_px, rel=0.05)


def test_a_picture_close_to_the_face_does_not_bring_the_others_close(astronaut, portraits, detector):
    x, y, w, h = (round(v) for v in portraits[0].face.box)
    tight = Portrait.from_array(
        np.ascontiguousarray(astronaut[y - h // 8 : y + h + h // 8, x - w // 8 : x + w + w // 8]), detector=detector
    )
    near, far = frame_portraits([tight, portraits[0]], "side-by-side", 256)
    assert far.face.box[3] < 0.62 * 256 < near.face.box[3]


@pytest.mark.parametrize("height", [127, 129, 4000])
def test_heights_out_of_range(portraits, height):
    with pytest.raises(OptionError, match=f"height is {height}"):
        frame_portraits(portraits, "shots", height)


def test_panels_stand_in_a_row(portraits):
    framed = frame_portraits(portraits[:2], "side-by-side", 128)
    stage = SideBySide(framed)
    width, height = stage.frame_size
    assert width % 2 == height % 2 == 0
    frame = stage.draw([STILL, STILL], 0)
    assert frame.shape == (height, width, 3)
    panel = framed[0].image.shape[1]
    assert not frame[:, panel : width - panel].any() and width - 2 * panel in range(2, 10)
    for place, portrait in ((0, framed[0]), (width - panel, framed[1])):
        # a face at rest closes the picture's smile, and changes nothing outside of the face
        assert np.median(np.abs(frame[:, place : place + panel].astype(int) - portrait.image)) == 0


def test_a_shot_shows_who_is_on(portraits):
    framed = frame_portraits(portraits[:2], "shots", 128)
    turns = turns_at(("Ann", 0, 50), ("Bob", 60, 50))
    stage = Shots(framed, cuts_of(turns, ["Ann", "Bob"]))
    for number, place in ((0, 0), (55, 0), (57, 1), (90, 1)):
        frame = stage.draw([STILL, STILL], number)
        errors = [np.abs(frame.astype(int) - p.image).mean() for p in framed]
        assert np.argmin(errors) == place


def turns_at(*places: tuple[str, int, int]) -> list[Turn]:
    silence = Speech.from_array(np.zeros(1600, np.float32), 16000)
    return [Turn(who, "", silence, start, frames, (), None, None) for who, start, frames in places]


def cuts(shortest: float, *places: tuple[str, int, int]) -> list[tuple[int, int]]:
    return [(c.start, c.place) for c in cuts_of(turns_at(*places), ["Ann", "Bob"], shortest)]


def test_cuts_come_a_moment_before_the_voice():
    assert cuts(1, ("Bob", 10, 50), ("Ann", 70, 50)) == [(0, 1), (66, 0)]
    assert cuts(1, ("Bob", 10, 50), ("Ann", 61, 50)) == [(0, 1), (60, 0)]  # but not while another speaks


def test_shots_last():
    talk = ("Ann", 0, 50), ("Bob", 55, 10), ("Ann", 70, 8), ("Bob", 80, 50)
    assert cuts(0, *talk) == [(0, 0), (51, 1), (66, 0), (78, 1)]
    assert cuts(1, *talk) == [(0, 0), (51, 1)]  # Ann's line is nearly over when Bob's shot may end
    assert cuts(1, *talk[:2], ("Ann", 70, 20), ("Bob", 95, 50)) == [(0, 0), (51, 1), (76, 0), (101, 1)]
    assert cuts(60, *talk) == [(0, 0)]


def test_one_speaker_is_one_shot():
    assert cuts(1, ("Ann", 0, 50), ("Ann", 60, 50)) == [(0, 0)]


@pytest.mark.parametrize("shortest", [-1.0, float("nan"), float("inf")])
def test_shortest_shot_out_of_range(shortest):
    with pytest.raises(OptionError, match="shortest shot"):
        cuts(shortest, ("Ann", 0, 50))
