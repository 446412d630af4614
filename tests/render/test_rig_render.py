"""The rig render on a real portrait, judged by finding the face again in what it drew."""

import numpy as np
import pytest

from magictalk.errors import OptionError
from magictalk.face.landmarks import FaceDetector
from magictalk.motion import ARKIT, Motion
from magictalk.portrait import Portrait
from magictalk.render.rig import RigRender

STILL = np.zeros(6, np.float32)


@pytest.fixture(scope="module")
def portrait(astronaut):
    return Portrait.from_array(astronaut[:400, 60:400])


@pytest.fixture(scope="module")
def render(portrait):
    return RigRender(portrait, size=(680, 800))


@pytest.fixture(scope="module")
def see():
    detector = FaceDetector()
    return lambda frame: detector(frame)[0].landmarks


def expression(**values: float) -> np.ndarray:
    coefficients = np.zeros(52, np.float32)
    for name, value in values.items():
        coefficients[ARKIT.index(name)] = value
    return coefficients


def gap(points, a, b):
    return np.linalg.norm(points[a, :2] - points[b, :2]) / np.linalg.norm(points[33, :2] - points[263, :2])


def test_own_expression_and_pose_give_the_picture_back(render, portrait):
    frame = render.draw(portrait.coefficients, STILL)
    assert np.abs(frame.astype(int) - render.picture).mean() < 0.1


def test_same_motion_same_bytes(render):
    c = expression(jawOpen=0.4)
    np.testing.assert_array_equal(render.draw(c, STILL), render.draw(c, STILL))


def test_body_and_far_background_do_not_move(render):
    frame = render.draw(expression(jawOpen=0.7), np.array([0.1, 0.2, 0.1, 0.05, 0.02, 0], np.float32))
    np.testing.assert_array_equal(frame[-120:], render.picture[-120:])
    np.testing.assert_array_equal(frame[:, -40:], render.picture[:, -40:])


def test_a_smile_with_teeth_is_brought_to_a_closed_mouth(render, see):
    assert gap(see(render.picture), 13, 14) > 0.08
    assert gap(see(render.draw(expression(), STILL)), 13, 14) < 0.03


def test_jaw_opens_the_mouth_in_proportion(render, see):
    gaps = [gap(see(render.draw(expression(jawOpen=v), STILL)), 13, 14) for v in (0, 0.3, 0.6, 0.9)]
    assert (np.diff(gaps) > 0.03).all()


def test_lids_close(render, see):
    opened, closed = (see(render.draw(expression(eyeBlinkLeft=v, eyeBlinkRight=v), STILL)) for v in (0, 1))
    for upper, lower in ((159, 145), (386, 374)):
        assert gap(closed, upper, lower) < 0.45 * gap(opened, upper, lower)


def test_irises_turn_to_the_side_asked(render, see):
    # the person's left is the picture's right
    left = see(render.draw(expression(eyeLookOutLeft=0.7, eyeLookInRight=0.7), STILL))
    right = see(render.draw(expression(eyeLookInLeft=0.7, eyeLookOutRight=0.7), STILL))
    for iris in (468, 473):
        assert left[iris, 0] - right[iris, 0] > 0.04 * np.linalg.norm(left[33, :2] - left[263, :2])


@pytest.mark.parametrize(("axis", "degrees"), [(1, 12), (1, -12), (0, 9), (0, -9), (2, 8), (2, -8)])
def test_head_turns_as_far_as_asked(render, see, axis, degrees):
    from magictalk.face.pose import Pose

    head = STILL.copy()
    head[axis] = np.radians(degrees)
    rest, turned = (Pose.fit(see(render.draw(expression(), h))).rotation for h in (STILL, head))
    assert np.degrees(turned[axis] - rest[axis]) == pytest.approx(degrees, rel=0.5)


def test_upper_teeth_keep_to_the_skull(render):
    half, wide = (render.draw(expression(jawOpen=v, mouthSmileLeft=0.6, mouthSmileRight=0.6, mouthUpperUpLeft=0.6,
                                         mouthUpperUpRight=0.6), STILL) for v in (0.5, 0.8))  # fmt: skip
    x, y = (render.surface.source[13]).round().astype(int)
    teeth = slice(y + 2, y + 10), slice(x - 20, x + 20)
    assert half[teeth].mean() > 90  # they are there,
    pattern = np.corrcoef(half[teeth].ravel(), wide[teeth].ravel())[0, 1]
    assert pattern > 0.8  # and the jaw does not take them along


def test_motion_beyond_reach_is_compressed_not_torn(render, see):
    frame = render.draw(expression(), np.array([0, 1.5, 0, 2, 0, 0], np.float32))
    assert see(frame).shape == (478, 3)


def test_one_frame_for_each_frame_of_motion(render):
    frames = list(render([Motion.zeros(2), Motion.zeros(1)]))
    assert len(frames) == 3
    assert all(f.shape == (800, 680, 3) and f.dtype == np.uint8 for f in frames)


def test_odd_pictures_are_made_even(portrait, astronaut):
    assert RigRender(Portrait.from_array(astronaut[:301, 100:351])).frame_size == (252, 302)


@pytest.mark.parametrize("size", [(681, 800), (800, 680), (8, 8)])
def test_sizes_that_cannot_be_are_refused(portrait, size):
    with pytest.raises(OptionError, match=f"{size[0]}x{size[1]}"):
        RigRender(portrait, size=size)


@pytest.mark.parametrize("size", [(28, 32), (54, 64), (108, 128)])
def test_a_face_of_a_few_pixels_is_drawn_too(portrait, size):
    render = RigRender(portrait, size=size)
    for coefficients in (portrait.coefficients, expression(), expression(jawOpen=1, eyeBlinkLeft=1)):
        assert render.draw(coefficients, STILL).shape == (size[1], size[0], 3)
