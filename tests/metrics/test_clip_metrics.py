"""Figures of a clip: boxes of CPBD, joined chunks of flicker, lost faces, emotions, sync."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from magictalk.errors import OptionError
from magictalk.metrics.dynamics import ADFD
from magictalk.metrics.emotion import EmotionAccuracy
from magictalk.metrics.flicker import Flicker
from magictalk.metrics.functional.dynamics import adfd
from magictalk.metrics.functional.landmarks import IBUG_68, landmark_distance
from magictalk.metrics.functional.sharpness import cpbd
from magictalk.metrics.landmarks import LandmarkDistance
from magictalk.metrics.lips import SilentLips
from magictalk.metrics.sharpness import CPBD
from magictalk.metrics.sync import AudioVideoOffset


def test_cpbd_of_a_box_is_that_of_the_part(astronaut):
    figure = CPBD()
    figure.update([astronaut], [[150, 40, 128, 130]])
    part = cv2.cvtColor(astronaut[40:170, 150:278], cv2.COLOR_RGB2GRAY)
    assert float(figure.compute()) == pytest.approx(cpbd(part))


@pytest.mark.parametrize("box", [[0, 0, 10, 10], [505, 505, 7, 7], [490, 100, 60, 300], [-20, -20, 50, 80]])
def test_cpbd_widens_small_boxes_inside_the_picture(astronaut, box):
    figure = CPBD()
    figure.update([astronaut], [box])
    assert 0 <= float(figure.compute()) <= 1


def test_flicker_goes_on_across_chunks(pictures):
    frames = pictures[1]
    whole, chunks, apart = Flicker(), Flicker(), Flicker()
    whole.update(frames)
    chunks.update(frames[:4])
    chunks.update(frames[4:], first=False)
    apart.update(frames[:4])
    apart.update(frames[4:])
    assert float(chunks.compute()) == pytest.approx(float(whole.compute()))
    assert (int(whole.count), int(apart.count)) == (5, 4)
    chunks.reset()
    chunks.update(frames[:1], first=False)
    assert int(chunks.count) == 0


@pytest.mark.parametrize("mouth, name", [(True, "M-LMD"), (False, "F-LMD")])
def test_lost_faces_are_left_out_of_landmark_distances(mouth, name):
    a, b = np.random.default_rng(0).normal(200, 20, (2, 6, 478, 3))
    figure = LandmarkDistance(mouth)
    assert figure.figure == name
    holed = a.copy()
    holed[2] = np.nan
    figure.update(holed, b)
    kept = [0, 1, 3, 4, 5]
    assert float(figure.compute()) == pytest.approx(landmark_distance(a[kept], b[kept], mouth))


def test_adfd_looks_at_68_points_and_leaves_lost_faces_out():
    a, b = np.random.default_rng(0).normal(200, 5, (2, 6, 478, 3))
    points = list(IBUG_68)
    for printed, name in ((False, "ADFD"), (True, "ADFD (as printed)")):
        figure = ADFD(printed)
        assert figure.figure == name
        holed = np.insert(a, 6, np.nan, axis=0), np.insert(b, 6, 0, axis=0)
        figure.update(*holed, 700.0)
        figure.update(a[:1], b[:1], 700.0)  # one frame has no motion: no score
        assert int(figure.count) == 1
        expected = adfd(a[:, points, :2], b[:, points, :2], 700.0, printed=printed)
        assert float(figure.compute()) == pytest.approx(expected)


def test_emotions_are_read_over_the_whole_clip(weights):
    figure = EmotionAccuracy(weights)
    assert figure.labels == ["angry", "happy", "sad"]
    faces = np.zeros((5, 20, 20, 3), np.uint8)
    faces[:3, ..., 1] = 200  # the network reads the brightest channel
    faces[3:, ..., 2] = 200
    figure.update(faces, "happy")
    assert float(figure.compute()) == 1
    figure.update(faces, "sad")
    assert float(figure.compute()) == 0.5
    with pytest.raises(OptionError, match=r"bored.*angry, happy, sad"):
        figure.update(faces, "bored")


def test_a_clip_without_silence_says_nothing_of_silent_lips():
    figure = SilentLips()
    figure.update(np.ones(50), np.ones(50), np.random.default_rng(0).normal(size=32000))
    assert int(figure.count) == 0


def test_offsets_either_way_count():
    figure = AudioVideoOffset()
    for offset in (-0.2, 0.1):
        figure.update(SimpleNamespace(offset_s=offset, distance=8.0, confidence=3.0))
    assert float(figure.compute()) == pytest.approx(0.15)
