"""Styles: emotions, timelines, and what is read off pictures and clips."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from magictalk.errors import StyleError
from magictalk.face.landmarks import FaceDetector
from magictalk.motion import ARKIT, Motion
from magictalk.style import EMFACS, EMOTIONS, Style, beyond_talk, expression, lay_over, strongest, units, variant
from magictalk.video import VideoWriter

INTENSITIES = st.floats(0, 1.5)
LABELS = st.sampled_from(EMOTIONS)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def at(face, name):
    return float(face[ARKIT.index(name)])


def both(face, name):
    return (at(face, f"{name}Left") + at(face, f"{name}Right")) / 2


def nearest(face):
    faces = {label: units(EMFACS[label]) for label in EMOTIONS[1:]}
    return max(faces, key=lambda label: float(face @ faces[label] / np.linalg.norm(faces[label])))


# emotions


def test_action_units_move_the_muscles_they_are_named_after():
    assert both(expression("happy"), "mouthSmile") == pytest.approx(0.75)
    assert both(expression("angry"), "browDown") == pytest.approx(0.9)
    assert at(expression("contempt"), "mouthSmileLeft") == 0
    assert not expression("neutral").any()


def test_a_face_cannot_pass_its_full_strength():
    assert both(expression("angry", 1.5), "browDown") == 1


@pytest.mark.parametrize("label", EMOTIONS[1:])
def test_variants_of_an_emotion_are_nearest_to_it(label):
    rng = np.random.default_rng(0)
    found = [nearest(variant(label, rng)) for _ in range(50)]
    assert found.count(label) >= 45


def test_unknown_emotions_are_answered_with_those_there_are():
    for make in (expression, Style.emotion, Style.parse):
        with pytest.raises(StyleError, match="'joyful'") as caught:
            make("joyful")
        assert "neutral, happy, sad, angry, fear, disgust, surprised, contempt" in str(caught.value)


@pytest.mark.parametrize("intensity", [-0.1, 1.6, float("nan"), float("inf")])
def test_intensities_out_of_range(intensity):
    with pytest.raises(StyleError, match=r"expected 0 to 1\.5"):
        Style.emotion("happy", intensity)


def test_speech_that_closes_the_lips_wins_over_an_open_expression():
    talking, open_ = np.zeros((2, 52), np.float32), expression("surprised")
    closed, free = lay_over(talking, open_, np.array([1, 0], np.float32))
    assert at(closed, "jawOpen") == 0
    assert at(free, "jawOpen") == pytest.approx(EMFACS["surprised"]["26"])
    assert at(closed, "browInnerUp") == at(free, "browInnerUp") > 0


@given(st.lists(st.floats(0, 1, width=32), min_size=52, max_size=52), LABELS, INTENSITIES)
def test_an_expression_never_leaves_the_range_of_a_face(talking, label, intensity):
    talking = np.array(talking, np.float32)
    laid = lay_over(talking, expression(label, intensity))
    assert (laid >= talking - 1e-6).all() and (laid <= 1 + 1e-6).all()


# how a style is written


@given(LABELS, INTENSITIES)
def test_a_written_emotion_is_that_emotion(label, intensity):
    written = Style.parse(f" {label.upper()}  {intensity!r} ")
    np.testing.assert_array_equal(written.expression([0, 5]), [expression(label, intensity)] * 2)


def test_emotions_add_up_in_a_mix():
    mix = Style.mix({"sad": 0.6, "fear": 0.3})
    expected = (0.6 * units(EMFACS["sad"]) + 0.3 * units(EMFACS["fear"])).clip(0, 1)
    np.testing.assert_allclose(mix.expressions[0], expected, atol=1e-6)
    np.testing.assert_array_equal(Style.parse("sad 0.6 + fear 0.3").expressions, mix.expressions)


def test_nothing_asked_is_neutral():
    assert not Style.neutral().expression(np.arange(3)).any()
    assert Style.neutral().frames is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected one of neutral"),
        ("happy very", "intensity of happy is 'very'"),
        ("happy 0.8 0.2", "expected one of neutral"),
        ("happy 2", "intensity of happy is 2; expected 0 to 1.5"),
        ("sad 0.5 + ", "expected one of neutral"),
        ("sad + sad", "intensity of sad is 2"),
        ("0.8 happy", "expected one of neutral"),
    ],
)
def test_emotions_written_wrongly(text, said):
    with pytest.raises(StyleError, match=re.escape(said)) as caught:
        Style.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "label"),
    [("Happy 0.8", "happy"), ("happy+sad", "happy"), ("sad 0.2 + happy 1", "happy"), (" angry ", "angry")],
)
def test_the_strongest_of_several(text, label):
    assert strongest(text) == label


def test_a_timeline_changes_smoothly_from_one_emotion_to_the_next():
    style = Style.timeline("0s neutral, 4s happy 0.8; 1:05 surprised")
    np.testing.assert_array_equal(style.times, [0, 4, 65])
    seconds = np.array([0, 4, 4.4, 4.8, 60, 65, 65.8, 1000])
    happy, surprised = expression("happy", 0.8), expression("surprised")
    expected = [0 * happy, 0 * happy, happy / 2, happy, happy, happy, surprised, surprised]
    np.testing.assert_allclose(style.expression(seconds), expected, atol=1e-6)


def test_close_entries_change_faster():
    style = Style.timeline("0 happy, 1 sad, 1.2 angry")
    np.testing.assert_allclose(style.expression([1.2])[0], expression("sad"), atol=1e-6)


def test_before_a_timelines_first_entry_the_face_is_neutral():
    style = Style.timeline("2s angry")
    assert not style.expression([0, 1.99]).any()
    np.testing.assert_allclose(style.expression([3])[0], expression("angry"), atol=1e-6)


@given(st.lists(st.tuples(st.integers(1, 200), LABELS, INTENSITIES), min_size=1, max_size=8))
def test_no_timeline_ever_jumps(entries):
    times = np.cumsum([gap for gap, _, _ in entries]) / 50
    text = ", ".join(f"{t:.2f}s {label} {i:.3f}" for t, (_, label, i) in zip(times, entries, strict=True))
    style = Style.timeline(text)
    faces = style.expression(np.arange(0, times[-1] + 1, 0.001))
    fastest = 1.5 / min(0.8, np.diff(style.times, append=np.inf).min())  # a smoothstep's slope is 1.5 at most
    assert np.abs(np.diff(faces, axis=0)).max() <= 0.001 * fastest + 1e-5
    assert faces.min() >= -1e-6 and faces.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "timeline is empty"),
        (" , ;", "timeline is empty"),
        ("4s happy, 2s sad", "'2s sad' after '4s happy'"),
        ("0s happy, 0s sad", "'0s sad' after '0s happy'"),
        ("-1s happy", "'-1s happy'; expected a time and an emotion"),
        ("happy", "'happy'; expected a time and an emotion"),
        ("3s", "'3s'; expected a time and an emotion"),
        ("0s neutral, 4s delighted", "no emotion named 'delighted'"),
        ("0s happy 7", "intensity of happy is 7"),
        ("1000001 happy", "expected times up to 1000000 s"),
        ("9" * 5000 + ":00 happy", "expected times up to 1000000 s"),
        ("0s sad, " + "9" * 5000 + "s happy", "expected times up to 1000000 s"),
    ],
)
def test_timelines_written_wrongly(text, said):
    with pytest.raises(StyleError, match=re.escape(said)) as caught:
        Style.timeline(text)
    assert "\n" not in str(caught.value)


# pictures and clips


def face(**levels):
    coefficients = np.zeros(52, np.float32)
    for i, name in enumerate(ARKIT):
        coefficients[i] = levels.get(name.removesuffix("Left").removesuffix("Right"), 0)
    return coefficients


def test_a_talking_mouth_is_no_style():
    opening = np.abs(np.sin(np.arange(100) / 2))[:, None]
    talk = opening * face(jawOpen=0.35, mouthFunnel=0.6, mouthLowerDown=0.25, mouthUpperUp=0.25, mouthPucker=0.9)
    assert beyond_talk(talk.astype(np.float32)).max() < 0.05


def test_a_smile_under_speech_is_one():
    opening = np.abs(np.sin(np.arange(100) / 2))[:, None]
    shown = beyond_talk((opening * face(jawOpen=0.35) + face(mouthSmile=0.7, cheekSquint=0.4)).astype(np.float32))
    assert both(shown, "mouthSmile") == pytest.approx(0.6)
    assert nearest(shown) == "happy"
    assert at(shown, "jawOpen") < 0.05


def test_large_eyes_are_not_wide_ones():
    assert not beyond_talk(face(eyeWide=1)[None]).any()
    startled = beyond_talk(face(eyeWide=1, browInnerUp=0.8, browOuterUp=0.8)[None])
    assert both(startled, "eyeWide") == pytest.approx(0.75)


def test_a_smirk_keeps_to_its_side():
    smirk = face()
    smirk[ARKIT.index("mouthSmileRight")] = 0.7
    shown = beyond_talk(smirk[None])
    assert at(shown, "mouthSmileLeft") == 0 < at(shown, "mouthSmileRight")


def test_a_smiling_picture_gives_a_smile(astronaut, detector, tmp_path):
    Image.fromarray(astronaut).save(tmp_path / "smile.png")
    style = Style.open(tmp_path / "smile.png", detector)
    assert style.frames.shape == (1, 52)
    assert nearest(style.expressions[0]) == "happy"
    assert both(style.expressions[0], "mouthSmile") > 0.4
    np.testing.assert_array_equal(style.expression([0, 9]), [style.expressions[0]] * 2)


def test_a_clip_gives_its_frames(astronaut, detector, tmp_path):
    with VideoWriter(tmp_path / "smile.mp4") as writer:
        for shade in range(10):
            writer.write(np.clip(astronaut.astype(int) + 5 - shade, 0, 255).astype(np.uint8))
    style = Style.open(tmp_path / "smile.mp4", detector)
    assert style.frames.shape == (10, 52)
    assert nearest(style.expressions[0]) == "happy"
    gaze = [name.startswith(("eyeLook", "eyeBlink")) for name in ARKIT]
    assert not style.frames[:, gaze].any() and not style.expressions[:, gaze].any()


@pytest.mark.parametrize(("kind", "frames"), [("gif", 3), ("png", 3), ("webp", 1)])
def test_animated_pictures_are_clips_where_they_can_be_played(astronaut, detector, tmp_path, kind, frames):
    first, *rest = (
        Image.fromarray(np.clip(astronaut.astype(int) - shade, 0, 255).astype(np.uint8)) for shade in (0, 9, 18)
    )
    first.save(tmp_path / f"clip.{kind}", save_all=True, append_images=rest, duration=40)
    assert Style.open(tmp_path / f"clip.{kind}", detector).frames.shape == (frames, 52)


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_an_animation_of_one_frame_is_a_picture(astronaut, detector, tmp_path, kind):
    Image.fromarray(astronaut).save(tmp_path / f"still.{kind}", save_all=True)
    assert Style.open(tmp_path / f"still.{kind}", detector).frames.shape == (1, 52)


def test_long_clips_are_sampled_evenly(tmp_path):
    recorded = np.tile(face(mouthSmile=0.8), (1000, 1))
    recorded[:, ARKIT.index("jawOpen")] = np.linspace(0, 1, 1000)
    Motion(recorded).save(tmp_path / "long.npz")
    style = Style.open(tmp_path / "long.npz")
    assert style.frames.shape == (300, 52)
    np.testing.assert_allclose(style.frames[:, ARKIT.index("jawOpen")], np.linspace(0, 1, 300), atol=1e-3)
    assert both(style.expressions[0], "mouthSmile") == pytest.approx(0.55 / 0.75, abs=1e-5)


def test_real_faces_at_rest_give_nearly_nothing(shared, detector):
    for name in ("grid__bbaf2n_frame.png", "LivePortrait__s3.jpg", "Sonic__leonnado.jpg", "SadTalker__people_0.png"):
        assert np.linalg.norm(Style.open(shared / "portraits" / name, detector).expressions) < 0.25, name


def test_real_expressions_are_read(shared, detector):
    for name, emotion in (
        ("SadTalker__happy1.png", "happy"),
        ("hallo3__0001.jpg", "happy"),
        ("Audio2Head__obama.jpg", "angry"),
        ("AniPortrait__lyl.png", "sad"),
        ("LivePortrait__d8.jpg", "sad"),
    ):
        assert nearest(Style.open(shared / "portraits" / name, detector).expressions[0]) == emotion, name


def test_files_that_are_no_style(detector, tmp_path):
    Image.new("RGB", (300, 300), "teal").save(tmp_path / "wall.png")
    with VideoWriter(tmp_path / "wall.mp4") as writer:
        for _ in range(5):
            writer.write(np.full((128, 128, 3), 90, np.uint8))
    (tmp_path / "words.txt").write_text("a very sad face\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    Motion.zeros(0).save(tmp_path / "none.npz")
    for name, said in (
        ("wall.png", "no face found in wall.png"),
        ("wall.mp4", "no face in any of 5 frames"),
        ("words.txt", "words.txt"),
        ("empty.mp4", "empty"),
        ("broken.npz", "is not a motion file"),
        ("none.npz", "holds no frame"),
        ("missing.png", "no file at"),
        ("", "no file at"),
        ("x" * 300, "no file at"),
    ):
        with pytest.raises(StyleError, match=said) as caught:
            Style.open(tmp_path / name, detector)
        message = str(caught.value)
        assert "\n" not in message and "expected a picture" in message and "--face-box" not in message
