"""Each stage alone: scenes, cutting, one complete face, the crop, the picture, the sound."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magictalk.data.settings import Settings
from magictalk.data.stages import (
    Dropped,
    Look,
    Track,
    assess,
    check_face,
    check_person,
    check_picture,
    check_sync,
    check_syncnet,
    crop_head,
    cut,
    embed,
    find_scenes,
    measure_picture,
    read_sound,
    shrink,
    track_face,
)
from magictalk.errors import OptionError
from magictalk.face.landmarks import FaceDetector, FaceTracker
from magictalk.face.recognition import FaceRecogniser
from magictalk.metrics.functional.sync import SyncFigures
from magictalk.sync import Sync

SETTINGS = Settings()


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def tracker(detector):
    return FaceTracker(detector)


@pytest.fixture(scope="module")
def scene(astronaut):
    """The astronaut's head in a wider picture, [300, 500, 3]."""
    return np.ascontiguousarray(np.pad(astronaut[:300, 60:360], ((0, 0), (100, 100), (0, 0)), mode="edge"))


@pytest.fixture(scope="module")
def track(scene, tracker, detector):
    return track_face([np.roll(scene, t // 2, 1) for t in range(30)], tracker, detector)


def test_scenes_begin_where_the_picture_changes():
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 255, (90, 160, 3), np.uint8) for _ in range(3)]
    frames = [s for s, n in zip(scenes, (40, 3, 60), strict=True) for _ in range(n)]
    assert find_scenes(iter(frames), SETTINGS) == (103, [40, 43])
    assert find_scenes([], SETTINGS) == (0, [])


def test_a_moving_head_and_a_slow_fade_are_no_cuts(scene):
    moving = [np.roll(scene, round(30 * np.sin(t / 5)), 1) for t in range(60)]
    assert np.array_equal(shrink(shrink(scene)), shrink(scene)) and max(shrink(scene).shape) == 320
    fading = [(scene * (1 - t / 60)).astype(np.uint8) for t in range(60)]
    assert find_scenes(moving, SETTINGS)[1] == [] == find_scenes(fading, SETTINGS)[1]


@given(st.integers(1, 20000), st.lists(st.integers(1, 19999), unique=True))
def test_clips_cover_every_frame_once_and_long_scenes_fall_into_even_parts(frames, cuts):
    cuts = sorted(c for c in cuts if c < frames)
    clips = cut(frames, cuts, SETTINGS)
    assert [f for f, _ in clips] == [0, *(s for _, s in clips[:-1])] and clips[-1][1] == frames
    assert set(cuts) <= {f for f, _ in clips}
    assert all(0 < stop - first <= 750 for first, stop in clips)
    edges = {0, *cuts, frames}
    for first, stop in clips:
        assert {first, stop} <= edges or stop - first >= 375 - 1  # no tiny rest


def test_track_of_a_face(track):
    assert track.landmarks.shape == (30, 478, 3) and track.seen.all() and (track.width, track.height) == (500, 300)
    assert len(track.looks) == 2 and track.face_px == pytest.approx(92, abs=6)
    check_face(track, SETTINGS)
    for t, look in zip((0, 25), track.looks, strict=True):
        assert look.others == ()
        shift = look.landmarks - track.landmarks[t]
        assert np.ptp(shift[:, :2], axis=0).max() < 1e-3 and not shift[:, 2].any()


def test_nobody_there(tracker, detector):
    with pytest.raises(Dropped, match="no face in sight"):
        track_face([np.full((100, 100, 3), 90, np.uint8)] * 3, tracker, detector)
    with pytest.raises(Dropped, match="no face in sight"):
        track_face([], tracker, detector)


def test_what_was_seen_before_changes_nothing(scene, track, tracker, detector):
    """Bit for bit, or datasets would depend on the order in which clips are processed."""
    track_face([np.roll(scene, -60, 1), np.zeros_like(scene), scene], tracker, detector)
    again = track_face([np.roll(scene, t // 2, 1) for t in range(30)], tracker, detector)
    assert np.array_equal(again.landmarks, track.landmarks)
    assert all(a.others == b.others for a, b in zip(again.looks, track.looks, strict=True))


def test_two_people(scene, astronaut, tracker, detector):
    wide = np.concatenate([scene, scene], 1)
    with pytest.raises(Dropped, match="several faces"):
        check_face(track_face([wide] * 3, tracker, detector), SETTINGS)


@pytest.mark.parametrize("width", [0.2, 0.5])
def test_a_face_in_the_background_counts_when_it_is_large(track, width):
    crowded = replace(track, looks=tuple(replace(look, others=(width,)) for look in track.looks))
    if width < SETTINGS.rival:
        check_face(crowded, SETTINGS)
    else:
        with pytest.raises(Dropped, match="several faces"):
            check_face(crowded, SETTINGS)


def test_gaps_are_borne_up_to_a_share(track):
    meshes = track.landmarks.copy()
    meshes[3] = np.nan
    check_face(replace(track, landmarks=meshes), SETTINGS)
    meshes[4] = np.nan
    with pytest.raises(Dropped, match="out of sight for too long"):
        check_face(replace(track, landmarks=meshes), SETTINGS)


@pytest.mark.parametrize("shift", [(-260, 0), (240, 0), (0, -100), (0, 160)])
def test_a_face_at_the_edge_is_incomplete(track, shift):
    moved = track.landmarks + np.array([*shift, 0], np.float32)
    with pytest.raises(Dropped, match="cut off by the picture's edge"):
        check_face(replace(track, landmarks=moved), SETTINGS)


def test_one_person_throughout(track):
    found = embed(track, FaceRecogniser())
    assert found.shape == (2, 128)
    check_person(found, SETTINGS)
    with pytest.raises(Dropped, match="another person"):
        check_person(np.stack([found[0], found[0] + 0.1]), SETTINGS)


@given(
    st.integers(200, 2000), st.integers(200, 2000), st.integers(40, 400), st.floats(0, 1), st.floats(0, 1),
    st.integers(0, 100),
)  # fmt: skip
def test_the_crop_is_one_square_inside_of_the_picture_around_the_whole_path(width, height, face, x, y, travel):
    face = min(face, width // 2, height // 2)
    start = np.array([x * (width - face), y * (height - face)])
    path = np.clip(start + np.linspace(0, travel, 10)[:, None], 0, [width - face, height - face])
    unit = np.random.default_rng(0).random((478, 2))
    unit[:2] = 0, 1
    points = np.concatenate([path[:, None] + face * unit, np.zeros((10, 478, 1))], 2).astype(np.float32)
    try:
        crop = crop_head(Track(width, height, points, ()))
    except Dropped:
        assert (np.ptp(points[..., :2], axis=(0, 1)) > min(width, height) - 1).any()
        return
    assert 0 <= crop.x <= width - crop.side and 0 <= crop.y <= height - crop.side
    inside = crop.landmarks(points, 512)
    assert inside[..., :2].min() >= -0.01 and inside[..., :2].max() <= 512.01
    assert np.ptp(points[..., 0]) <= crop.side <= max(width, height)


def test_the_crop_shows_hair_chin_and_shoulders(track):
    crop = crop_head(track)
    left, top, right, bottom = (f(track.boxes()[:, i]) for i, f in enumerate((min, min, max, max)))
    assert crop.y < top - 0.4 * (bottom - top) and crop.y + crop.side > bottom + 0.3 * (bottom - top)
    assert crop.x < left and crop.x + crop.side > right
    (small,) = crop.apply([np.zeros((300, 500, 3), np.uint8)], 64)
    assert small.shape == (64, 64, 3)


def test_crop_moves_pixels_and_landmarks_alike(track, scene):
    crop, dot = crop_head(track), np.zeros_like(scene)
    x, y = crop.x + crop.side // 3, crop.y + crop.side // 4
    dot[y, x] = 255
    (found,) = crop.apply([dot], 512)
    at = (found[..., 0].astype(float)[..., None] * np.stack(np.indices((512, 512))[::-1], -1)).sum((0, 1))
    at = at / found[..., 0].sum() + 0.5
    point = np.zeros((478, 3), np.float32)
    point[:, :2] = x + 0.5, y + 0.5
    assert crop.landmarks(point, 512)[0, :2] == pytest.approx(at, abs=0.2)


def test_blur_and_light_are_measured(track):
    from scipy.ndimage import gaussian_filter

    sharp = measure_picture(track)
    blurred = [replace(k, picture=gaussian_filter(k.picture, (2.5, 2.5, 0))) for k in track.looks]
    soft = measure_picture(replace(track, looks=tuple(blurred)))
    assert soft["sharpness"] < 0.5 * sharp["sharpness"] and sharp["face_px"] == track.face_px
    dark = [replace(k, picture=k.picture // 16) for k in track.looks]
    assert measure_picture(replace(track, looks=tuple(dark)))["brightness"] < 0.06 < 0.3 < sharp["brightness"] < 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_px": 79.0}, "narrower than 80 px"),
        ({"brightness": 0.05}, "darker"),
        ({"brightness": 0.99}, "brighter"),
        ({"sharpness": 0.01}, "blurred"),
        ({"quality": 0.4}, "quality under 0.5"),
    ],
)
def test_pictures_that_are_not_good_enough(change, message):
    good = {"face_px": 80.0, "brightness": 0.5, "sharpness": 0.3, "quality": 0.6}
    settings = replace(SETTINGS, min_quality=0.5)
    check_picture(good, settings)
    with pytest.raises(Dropped, match=message):
        check_picture(good | change, settings)


def test_a_learned_assessor_sees_rgb_between_0_and_1(track):
    assert assess(track, lambda p: p.shape[0] + float(p.max())) == pytest.approx(4, abs=0.01)


def sine(seconds, late=0.0, rate=48000, stop=None):
    """A file whose picture begins at 0 and whose sound, 440 Hz, goes from ``late`` to ``stop`` seconds."""

    def write(path):
        with av.open(str(path), "w") as out:
            film, voice = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=rate, layout="mono")
            film.width = film.height = 64
            for t in range(round(25 * seconds)):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = t, Fraction(1, 25)
                out.mux(film.encode(frame))
            out.mux(film.encode(None))
            n = round(((stop or seconds) - late) * rate)
            wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = rate, round(late * rate), Fraction(1, rate)
            for part in (sound, None):
                out.mux(voice.encode(part))
        return path

    return write


def onset(samples):
    return int(np.argmax(np.abs(samples) > 0.1)) / 16000


def test_sound_keeps_to_the_clock_of_the_file(tmp_path):
    path = sine(4, late=1.2)(tmp_path / "late.mp4")
    assert onset(read_sound(path, 0.0, 100)) == pytest.approx(1.2, abs=0.01)
    assert onset(read_sound(path, 0.8, 60)) == pytest.approx(0.4, abs=0.01)
    assert read_sound(path, 0.8, 60).shape == (60 * 640,)


@pytest.mark.parametrize("offset", [-0.28, -0.1, 0.1, 0.28])
def test_a_found_offset_moves_the_sound_the_other_way(tmp_path, offset):
    """Mouths at t that match the sound at t + s are served by new_sound(t) = old_sound(t + s)."""
    path = sine(3, late=0.5)(tmp_path / "a.mp4")
    moved = read_sound(path, 0.0 + offset, 75)
    assert len(moved) == 75 * 640 and onset(moved) == pytest.approx(0.5 - offset, abs=0.01)


def test_no_sound_silence_and_sound_that_stops(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as out:
        film = out.add_stream("libx264", rate=25)
        film.width = film.height = 64
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux(film.encode(frame))
        out.mux(film.encode(None))
    with pytest.raises(Dropped, match="no sound"):
        read_sound(tmp_path / "mute.mp4", 0.0, 50)
    late = sine(4, late=2.5)(tmp_path / "late.mp4")
    with pytest.raises(Dropped, match="silence"):
        read_sound(late, 0.0, 50)
    with pytest.raises(Dropped, match="ends before the picture"):
        read_sound(late, 3.0, 50)
    place = tmp_path / "without sound"
    place.mkdir()
    for start in (2.0, 4.0):  # part of it, all of it
        with pytest.raises(Dropped, match="ends before the picture"):
            read_sound(sine(8, stop=2.5)(place / "stops.mp4"), start, 50)


SYNC = Sync(0.0, 0.6, 0.6, 0.8, 0.4, True)


def test_the_experts_findings():
    assert check_sync(SYNC, SETTINGS) == 0
    assert check_sync(replace(SYNC, offset_s=0.16), SETTINGS) == 0.16
    reasons = []
    for bad in ({"score": 0.02, "confidence": 0.1}, {"offset_s": 0.44}, {"offset_s": -0.16, "steady": False}):
        with pytest.raises(Dropped) as raised:
            check_sync(replace(SYNC, **bad), SETTINGS)
        reasons.append(raised.value.reason)
    assert reasons == [
        "lips do not follow the sound", "sound is off (expected 0.3 s or less)", "sound is off, not steadily",
    ]  # fmt: skip


def test_syncnets_findings():
    assert check_syncnet(SyncFigures(0.08, 7.0, 5.0), SETTINGS) == 0.08
    for bad in (SyncFigures(0.0, 12.0, 1.0), SyncFigures(0.4, 7.0, 5.0)):
        with pytest.raises(Dropped):
            check_syncnet(bad, SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 500}, {"size": 32}, {"shortest_s": 20.0}, {"min_sharpness": 2.0}, {"max_offset_s": -1.0},
        {"sync": "syncnet"}, {"sync_model": "here"}, {"shard_mb": 0.0}, {"min_face_px": 4.0},
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong):
    with pytest.raises(OptionError, match=r"expected|needs"):
        Settings(**wrong)


def test_looks_are_spread_over_a_long_clip(track):
    many = tuple(Look((), k.picture, k.landmarks) for k in track.looks * 10)
    assert embed(replace(track, looks=many), FaceRecogniser(), count=3).shape == (3, 128)
