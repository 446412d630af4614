"""Motion: what users save, edit, blend and read from videos."""

import csv

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from magictalk.errors import MotionError, VideoError
from magictalk.face.rig import Rig
from magictalk.motion import ARKIT, BLINK, GROUPS, Motion


@st.composite
def motions(draw, shortest=1):
    t = draw(st.integers(shortest, 12))
    c = draw(hnp.arrays(np.float32, (t, 52), elements=st.floats(0, 1, width=32)))
    head = draw(hnp.arrays(np.float32, (t, 6), elements=st.floats(-0.75, 0.75, width=32)))
    return Motion(c, head, draw(st.sampled_from([24.0, 25.0, 30.0, 60.0])))


def matrices(motion):
    return Rotation.from_rotvec(motion.head[:, :3]).as_matrix()


def test_names_are_arkits_and_groups_cover_them():
    assert len(ARKIT) == len(set(ARKIT)) == 52
    assert ARKIT[17] == "jawOpen" and ARKIT[-1] == "tongueOut"
    assert sorted(i for group in GROUPS.values() for i in group) == list(range(52))
    assert {ARKIT[i] for i in BLINK} == {"eyeBlinkLeft", "eyeBlinkRight"}


@pytest.mark.parametrize(
    ("coefficients", "head", "fps", "message"),
    [
        (np.zeros((3, 51)), None, 25, "expected"),
        (np.zeros(52), None, 25, "expected"),
        (np.zeros((3, 52)), np.zeros((2, 6)), 25, "expected"),
        (np.full((3, 52), np.nan), None, 25, "not finite"),
        (np.zeros((3, 52)), np.full((3, 6), np.inf), 25, "not finite"),
        (np.zeros((3, 52)), None, 0, "frames a second"),
        (np.zeros((3, 52)), None, float("nan"), "frames a second"),
    ],
)
def test_malformed_arrays_are_refused(coefficients, head, fps, message):
    with pytest.raises(MotionError, match=message):
        Motion(coefficients, head, fps)


@given(motions())
@settings(max_examples=15, deadline=None)
def test_npz_keeps_everything(tmp_path_factory, motion):
    path = motion.save(tmp_path_factory.mktemp("m") / "a motion é.npz")
    back = Motion.open(path)
    np.testing.assert_array_equal(back.coefficients, motion.coefficients)
    np.testing.assert_array_equal(back.head, motion.head)
    assert back.fps == motion.fps


@given(motions())
@settings(max_examples=15, deadline=None)
def test_csv_keeps_coefficients_and_rotation(tmp_path_factory, motion):
    path = motion.save(tmp_path_factory.mktemp("m") / "motion.csv")
    back = Motion.open(path, fps=motion.fps)
    np.testing.assert_allclose(back.coefficients, motion.coefficients, atol=1e-6)
    np.testing.assert_allclose(matrices(back), matrices(motion), atol=1e-5)
    assert not back.head[:, 3:].any()


def test_csv_has_live_links_layout(tmp_path):
    rows = list(csv.reader(Motion.zeros(30, 30.0).save(tmp_path / "m.csv").open()))
    assert rows[0][:4] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft", "EyeLookDownLeft"]
    assert rows[0][54:57] == ["HeadYaw", "HeadPitch", "HeadRoll"] and len(rows[0]) == 63
    assert rows[1][:2] == ["00:00:00:00.000", "61"] and rows[30][0].startswith("00:00:00:29")


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 60.0])
def test_csv_frame_rate_is_read_from_time_codes(tmp_path, fps):
    assert Motion.open(Motion.zeros(int(4 * fps), fps).save(tmp_path / "m.csv")).fps == pytest.approx(fps)


def test_a_recording_with_other_columns_first_is_read(tmp_path):
    names = [n[0].upper() + n[1:] for n in ARKIT][::-1]
    path = tmp_path / "phone.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([[*names, "Note"], [*np.linspace(0, 0.51, 52), "hello"]])
    np.testing.assert_allclose(Motion.open(path).coefficients[0], np.linspace(0, 0.51, 52)[::-1], atol=1e-6)


@pytest.mark.parametrize("name", ["m.txt", "m", "m.CSVX"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(MotionError, match=r"\.npz or \.csv"):
        Motion.zeros(1).save(tmp_path / name)
    (tmp_path / name).write_text("x")
    with pytest.raises(MotionError, match=r"\.npz or \.csv"):
        Motion.open(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04broken", b"Timecode,EyeBlinkLeft\n0,0\n"])
@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_damaged_files_are_refused_in_one_line(tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(MotionError) as error:
        Motion.open(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(MotionError, match="no motion file"):
        Motion.open(tmp_path / "none.npz")
    with pytest.raises(MotionError, match="cannot write"):
        Motion.zeros(1).save(tmp_path / "no" / "such" / "folder.npz")


@given(motions(shortest=2), st.sampled_from([12.5, 25.0, 50.0]))
@settings(max_examples=25, deadline=None)
def test_resampling_keeps_duration_ends_and_range(motion, fps):
    other = motion.resample(fps)
    assert other.fps == fps and abs(other.duration - motion.duration) <= 0.5 / fps + 1e-6
    np.testing.assert_allclose(other.coefficients[0], motion.coefficients[0], atol=1e-6)
    assert other.coefficients.min() >= 0 and other.coefficients.max() <= 1


def test_resampling_a_steady_turn_is_exact():
    t = np.arange(51) / 25
    head = np.zeros((51, 6))
    head[:, 1], head[:, 3] = 0.4 * t, 0.1 * t
    doubled = Motion(np.zeros((51, 52)), head).resample(50)
    moving = np.arange(len(doubled)) / 50 <= 2
    np.testing.assert_allclose(doubled.head[moving, 1], 0.4 * np.arange(len(doubled))[moving] / 50, atol=1e-5)
    np.testing.assert_allclose(doubled.head[moving, 3], 0.1 * np.arange(len(doubled))[moving] / 50, atol=1e-5)


@given(motions())
@settings(max_examples=20, deadline=None)
def test_blending_has_both_ends(motion):
    other = Motion(1 - motion.coefficients, -motion.head, motion.fps)
    for weight, end in ((0, motion), (1, other), (np.ones(len(motion)), other)):
        mixed = motion.blend(other, weight)
        np.testing.assert_allclose(mixed.coefficients, end.coefficients, atol=1e-6)
        np.testing.assert_allclose(matrices(mixed), matrices(end), atol=1e-5)
    half = motion.blend(other, 0.5)
    np.testing.assert_allclose(half.coefficients, 0.5, atol=1e-6)


@given(motions())
@settings(max_examples=20, deadline=None)
def test_relative_starts_at_rest_and_keeps_turns(motion):
    based = motion.relative()
    np.testing.assert_allclose(based.head[0], 0, atol=1e-6)
    np.testing.assert_allclose(matrices(based) @ matrices(motion)[0], matrices(motion), atol=1e-5)
    np.testing.assert_array_equal(based.coefficients, motion.coefficients)


@given(motions())
@settings(max_examples=20, deadline=None)
def test_adding_rest_changes_nothing_and_sums_stay_in_range(motion):
    same = motion + Motion.zeros(len(motion), motion.fps)
    np.testing.assert_array_equal(same.coefficients, motion.coefficients)
    np.testing.assert_allclose(matrices(same), matrices(motion), atol=1e-6)
    assert (motion + motion).coefficients.max() <= 1


def test_groups_scale_and_move_over_alone():
    motion = Motion(np.full((4, 52), 0.4), np.full((4, 6), 0.2))
    still = motion.scale(lips=0, head=0.5)
    assert not still.coefficients[:, GROUPS["lips"]].any()
    np.testing.assert_allclose(still.coefficients[:, GROUPS["brows"]], 0.4, atol=1e-6)
    np.testing.assert_allclose(still.head, 0.1, atol=1e-6)
    blink = motion.scale(blink=2)
    np.testing.assert_allclose(blink.coefficients[:, BLINK], 0.8, atol=1e-6)
    np.testing.assert_allclose(blink.coefficients.sum(), motion.coefficients.sum() + 4 * 2 * 0.4, rtol=1e-5)
    assert motion.scale(lips=9).coefficients.max() == 1
    taken = Motion.zeros(4).take(motion, "eyes", "head")
    assert set(np.flatnonzero(taken.coefficients[0])) == set(GROUPS["eyes"])
    np.testing.assert_array_equal(taken.head, motion.head)


def test_misuse_is_named():
    motion = Motion.zeros(4)
    for misuse, message in (
        (lambda: motion.scale(ears=1), "no group named ears"),
        (lambda: motion.scale(lips=-1), "cannot scale lips"),
        (lambda: motion.take(motion, "ears"), "no group named ears"),
        (lambda: motion.resample(0), "positive"),
        (lambda: motion.blend(Motion.zeros(5), 0.5), "differ"),
        (lambda: motion + Motion.zeros(4, 30.0), "differ"),
        (lambda: Motion.concatenate([motion, Motion.zeros(4, 30.0)]), "cannot join"),
    ):
        with pytest.raises(MotionError, match=message):
            misuse()


@given(motions(), st.integers(0, 12))
@settings(max_examples=15, deadline=None)
def test_cutting_and_joining_is_the_whole(motion, at):
    joined = Motion.concatenate([motion[:at], motion[at:]])
    np.testing.assert_array_equal(joined.coefficients, motion.coefficients)
    np.testing.assert_array_equal(joined.head, motion.head)
    assert len(Motion.concatenate([])) == 0


def write_video(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames[0].shape[1], frames[0].shape[0], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_from_video_sees_a_face_that_moves_right_and_is_out_of_sight_for_a_while(tmp_path, astronaut):
    picture = np.ascontiguousarray(astronaut[:320, 60:])
    frames = [np.ascontiguousarray(np.roll(picture, 4 * k, axis=1)) for k in range(12)]
    frames[5] = frames[6] = np.full_like(picture, 127)
    motion = Motion.from_video(write_video(tmp_path / "a b.mp4", frames))
    assert len(motion) == 12 and motion.fps == 25
    scale = Rig.load().fit_portrait(_mesh(picture)).pose.scale_px
    assert motion.head[-1, 3] == pytest.approx(44 / scale, abs=0.15)
    assert np.all(np.diff(motion.head[:, 3]) > -0.02)
    assert np.abs(motion.head[:, 4]).max() < 0.1
    assert motion.coefficients[:, ARKIT.index("mouthSmileLeft")].min() > 0


def _mesh(picture):
    from magictalk.face.landmarks import FaceDetector

    return FaceDetector()(picture)[0].landmarks


def test_from_video_on_real_speech(shared):
    motion = Motion.from_video(shared / "videos/open/grid__id2_vcd_swwp2s.mpg")
    assert 60 <= len(motion) <= 80 and motion.head.shape == (len(motion), 6)
    jaw = motion.coefficients[:, ARKIT.index("jawOpen")]
    assert jaw.max() > 0.1 and jaw.std() > 0.03
    assert np.abs(motion.head[:, :3]).max() < 0.6
    assert motion.coefficients[:, BLINK].max() > 0.8  # the speaker blinks once


def test_from_video_refuses_what_shows_no_face(tmp_path):
    grey = [np.full((64, 64, 3), 127, np.uint8)] * 3
    with pytest.raises(MotionError, match="no face in any of the 3 frames"):
        Motion.from_video(write_video(tmp_path / "grey.mp4", grey))
    with pytest.raises(VideoError):
        Motion.from_video(tmp_path / "none.mp4")
