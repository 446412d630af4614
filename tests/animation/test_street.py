"""The street end to end: motions are joined frame by frame, and sound decides the length."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

import magictalk
from magictalk import Motion, Portrait, Speech
from magictalk.animation import animate, motion_of
from magictalk.drive import mix
from magictalk.errors import (
    MagicTalkWarning,
    MotionError,
    OptionError,
    SpeechError,
    StyleError,
    VideoError,
    WeightsError,
)
from magictalk.motion import GROUPS
from magictalk.style import Style
from magictalk.video import probe, read_frames


@pytest.fixture(scope="session")
def portrait(astronaut) -> Portrait:
    return Portrait.from_array(np.ascontiguousarray(astronaut[20:240, 120:319]))


def numbered(frames: int) -> Motion:
    """A motion whose every frame is another: jawOpen counts up."""
    motion = Motion.zeros(frames)
    motion.coefficients[:, 17] = np.arange(frames) / 1000
    return motion


def sizes(motions) -> list[int]:
    return [len(m) for m in motions]


def cut(motion: Motion, at: list[int]):
    places = sorted({min(a, len(motion)) for a in at} | {0, len(motion)})
    return (motion[a:b] for a, b in pairwise(places))


places = st.lists(st.integers(0, 200), max_size=6)


@given(st.integers(1, 200), places, places)
@settings(max_examples=40, deadline=None)
def test_aligned_motions_are_the_same_motions(frames, first, second):
    a, b = numbered(frames), Motion(np.random.default_rng(0).random((frames, 52)))
    pairs = list(mix.aligned(cut(a, first), cut(b, second)))
    assert all(len(x) == len(y) > 0 for x, y in pairs)
    for side, whole in ((0, a), (1, b)):
        joined = Motion.concatenate([pair[side] for pair in pairs])
        assert (joined.coefficients == whole.coefficients).all()


@given(st.integers(1, 200), places, st.integers(0, 210))
@settings(max_examples=40, deadline=None)
def test_skip(frames, at, left_out):
    motion = numbered(frames)
    rest = Motion.concatenate(list(mix.skip(cut(motion, at), left_out)))
    assert (rest.coefficients == motion.coefficients[left_out:]).all()


@given(st.integers(320, 60000), st.integers(1, 40), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_motion_lasts_as_long_as_the_sound(samples, frames, swing):
    speech = Speech.from_array(np.zeros(samples, np.float32), 16000)
    played = Motion.concatenate(list(mix.play(numbered(frames), speech, swing)))
    assert len(played) == round(samples / 16000 * 25)


def test_a_short_driving_motion_runs_forth_and_back():
    speech = Speech.from_array(np.zeros(640 * 9, np.float32), 16000)
    swung = Motion.concatenate(list(mix.play(numbered(4), speech, swing=True))).coefficients[:, 17] * 1000
    assert swung.round().tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    held = Motion.concatenate(list(mix.play(numbered(4), speech, swing=False))).coefficients[:, 17] * 1000
    assert held.round().tolist() == [0, 1, 2, 3, 3, 3, 3, 3, 3]


def test_a_motion_without_sound_is_a_silent_video(portrait, tmp_path):
    made = animate(portrait, motion=numbered(7), size=128)
    assert made.speech is None and made.frame_count == 7 and sizes(made.motions()) == [7]
    info = probe(made.save(tmp_path / "silent.mp4"))
    assert (info.width, info.height, info.has_audio) == (116, 128, False)
    assert len(list(read_frames(tmp_path / "silent.mp4"))) == 7


@pytest.mark.parametrize(("size", "expected"), [("native", (200, 220)), (64, (58, 64)), (331, (300, 332))])
def test_size_scales_the_whole_picture(portrait, size, expected):
    made = animate(portrait, motion=numbered(1), size=size)
    (frame,) = made.frames()
    assert made.frame_size == expected == frame.shape[1::-1] and frame.dtype == np.uint8


def test_frames_can_start_later(portrait):
    made = animate(portrait, motion=numbered(60), size=96)
    whole, late = list(made.frames()), list(made.frames(55))
    assert len(whole) == 60 and len(late) == 5
    assert all((a == b).all() for a, b in zip(whole[55:], late, strict=True))


def test_label_marks_a_corner_of_every_frame(portrait):
    plain, marked = (next(animate(portrait, motion=numbered(1), label=on).frames()) for on in (False, True))
    rows, columns = np.nonzero((plain != marked).any(-1))
    assert len(rows) > 100 and rows.min() > 180 and columns.min() > 80


def test_amplitudes(portrait):
    motion = Motion(np.full((5, 52), 0.4, np.float32), np.linspace(0, 0.2, 30, dtype=np.float32).reshape(5, 6))
    motion = motion.relative()

    def moved(**amplitudes) -> Motion:
        return next(animate(portrait, motion=motion, **amplitudes).motions())

    assert (moved(lips=0).coefficients[:, GROUPS["lips"]] == 0).all()
    assert (moved(lips=0).coefficients[:, GROUPS["brows"]] > 0).all()
    assert moved(lips=2).coefficients[:, 17] == pytest.approx(0.8)
    assert (moved(head=0).head == 0).all() and moved(head=0.5).head == pytest.approx(motion.head / 2)
    assert (moved(blink=0).coefficients[:, [0, 7]] == 0).all() and moved(blink=0).coefficients[:, 1].min() > 0


def test_a_motion_file_starts_from_the_portraits_own_pose(portrait, tmp_path):
    motion = Motion(np.zeros((75, 52)), np.full((75, 6), 0.2, np.float32), fps=60)
    made = animate(portrait, motion=motion.save(tmp_path / "m.npz"))
    played = Motion.concatenate(list(made.motions()))
    assert len(played) == 31 and played.fps == 25 and np.abs(played.head).max() < 1e-6


def test_save_carries_the_sound_and_counts_frames(portrait, tmp_path):
    sound = (np.sin(np.arange(26000) / 20) * 9000).astype(np.int16)
    wavfile.write(tmp_path / "tone.wav", 22050, sound)
    told = []
    made = animate(portrait, tmp_path / "tone.wav", motion=numbered(40), size=96)
    path = made.save(tmp_path / "out.mp4", progress=lambda done, total: told.append((done, total)))
    expected = round(26000 / 22050 * 25)
    assert told == [(n, expected) for n in range(1, expected + 1)]
    assert probe(path).has_audio and len(list(read_frames(path))) == expected
    with pytest.raises(VideoError, match="overwrite"):
        made.save(path)
    made.save(path, overwrite=True)


def test_a_broken_job_goes_on_after_its_last_whole_segment(portrait, tmp_path):
    made = animate(portrait, motion=numbered(520), size=64)
    made._render = lambda motions: (np.full((64, 58, 3), 100, np.uint8) for m in motions for _ in range(len(m)))

    def interrupt(done, total):
        if done == 515:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.save(tmp_path / "out.mp4", progress=interrupt)
    assert not (tmp_path / "out.mp4").exists() and "500 frames are kept" in made.resume_hint
    with pytest.raises(VideoError, match=r"amplitudes was lips 1, .* now lips 0.5"):
        animate(portrait, motion=numbered(520), size=64, lips=0.5).save(tmp_path / "out.mp4", resume=True)
    told = []
    made.save(tmp_path / "out.mp4", resume=True, progress=lambda done, total: told.append(done))
    assert told == list(range(501, 521)) and made.resume_hint is None
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 520


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to say"),
        ({"lips": 2.1, "text": "hi"}, "lips is 2.1; expected 0 to 2"),
        ({"head": -1, "text": "hi"}, "head is -1"),
        ({"blink": float("nan"), "text": "hi"}, "blink is nan"),
        ({"size": 63, "text": "hi"}, "size is 63"),
        ({"size": "big", "text": "hi"}, "size is big"),
        ({"speech": "a.wav", "text": "hi"}, "both speech and text"),
        ({"motion": Motion.zeros(3), "driving": "a.mp4"}, "both a motion and a driving video"),
        ({"driving": "a.mp4", "driving_parts": "some"}, "driving parts"),
        ({"driving": "a.mp4"}, "nothing to say"),
        ({"start": -1.0, "speech": "a.wav"}, "start is -1"),
        ({"duration": 0.0, "speech": "a.wav"}, "duration is 0"),
        ({"start": 1.0, "text": "hi"}, "start and duration"),
        ({"face": 1, "text": "hi"}, "chosen already"),
        ({"emotion": "happy", "timeline": "0s sad", "text": "hi"}, "both emotion and timeline were given; choose one"),
        ({"emotion": "happy", "motion": Motion.zeros(3)}, "a motion file was asked for"),
        ({"emotion": "happy", "driving": "a.mp4", "text": "hi"}, "a driving video was asked for"),
        ({"emotion": "happy", "drive": "audio2bs", "text": "hi"}, "audio2bs was asked for; choose one"),
        ({"guidance": 1.0, "drive": "audio2bs", "text": "hi"}, "audio2bs was asked for"),
        ({"guidance": 10.5, "text": "hi"}, "guidance is 10.5; expected 0 to 10"),
        (
            {"drive": "magic", "text": "hi"},
            "no drive named 'magic'; expected emodiff, emodiff-unrefined, audio2bs, var",
        ),
        ({"emotion": "sad", "drive": "variational", "text": "hi"}, "variational was asked for; choose one"),
        ({"seed": -1, "text": "hi"}, "seed is -1; expected 0 to 4294967295"),
        ({"seed": 2**64, "text": "hi"}, "seed is"),
    ],
)
def test_options_that_make_no_sense(portrait, options, message):
    with pytest.raises(OptionError, match=message):
        animate(portrait, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emotion": "joyful"}, "no emotion named 'joyful'; expected one of neutral, happy, sad"),
        ({"emotion": "happy 2"}, "intensity of happy is 2; expected 0 to 1.5"),
        ({"timeline": "4s happy, 2s sad"}, "expected times that rise"),
        ({"prompt": " "}, "prompt"),
        ({"style": "nobody.png"}, "no file at nobody.png"),
    ],
)
def test_styles_that_cannot_be_used(portrait, options, message):
    with pytest.raises(StyleError, match=message):
        animate(portrait, text="hi", **options)


def test_an_emotion_shows_and_hides_the_pictures_mood(portrait):
    text = "We saw a purple bird, and it sang about spring."
    plain, sad = (
        Motion.concatenate(list(animate(portrait, text=text, emotion=e).motions())).coefficients.mean(0)
        for e in (None, "sad")
    )
    arkit = magictalk.motion.ARKIT
    assert sad[arkit.index("browInnerUp")] > plain[arkit.index("browInnerUp")] + 0.3
    assert sad[arkit.index("mouthFrownLeft")] > plain[arkit.index("mouthFrownLeft")] + 0.1
    smile = arkit.index("mouthSmileLeft")
    assert portrait.mood[smile] > 0.1 and sad[smile] < plain[smile] - 0.05


def test_a_video_in_the_middle_of_its_making_goes_on_with_the_same_style_only(portrait):
    one, other = (animate(portrait, text="hi", style=Style.neutral()) for _ in range(2))
    loud = animate(portrait, text="hi", style=Style(np.zeros(1), np.zeros((1, 52), np.float32), lips=1.3))
    assert one._fingerprint() == other._fingerprint() != loud._fingerprint()


def test_the_variational_drive_makes_takes(portrait):
    one, other = (
        Motion.concatenate(list(animate(portrait, text="hello", drive="variational", seed=s).motions())) for s in (1, 2)
    )
    assert len(one) == len(other) and not np.allclose(one.coefficients, other.coefficients, atol=1e-3)


def test_audio2bs_is_there_still(portrait):
    motion = Motion.concatenate(list(animate(portrait, text="hello", drive="audio2bs", seed=3).motions()))
    spoken = Motion.concatenate(list(mix.keep(mix.speak(Speech.say("hello", "en"), 3), portrait.mood)))
    assert np.array_equal(motion.coefficients, spoken.coefficients) and np.array_equal(motion.head, spoken.head)


def test_motions_that_do_not_fit(portrait, tmp_path):
    second = Speech.from_array(np.zeros(16000 * 3, np.float32), 16000)
    with pytest.raises(MotionError, match=r"the motion lasts 1.00 s, the speech 3.00 s; choose a duration of 1.00 s"):
        animate(portrait, second, motion=numbered(25))
    with pytest.raises(MotionError, match="no frame"):
        animate(portrait, motion=Motion.zeros(0))
    with pytest.raises(SpeechError, match="no file"):
        motion_of(tmp_path / "nothing.wav")


def test_speech_alone_moves_everything_and_the_seed_decides(portrait):
    text = "We saw a purple bird, and it sang about spring."
    made = animate(portrait, text=text, seed=1)
    motion = Motion.concatenate(list(made.motions()))
    assert len(motion) == made.frame_count == Speech.frame_count(len(made.speech.samples()))
    assert motion.coefficients[:, GROUPS["lips"]].std(0).max() > 0.02 and motion.head[:, :3].std() > 0.001
    again, other = (Motion.concatenate(list(animate(portrait, text=text, seed=s).motions())) for s in (1, 2))
    assert (again.coefficients == motion.coefficients).all() and (again.head == motion.head).all()
    assert (other.head != motion.head).any()
    assert (other.coefficients[:, GROUPS["lips"]] == motion.coefficients[:, GROUPS["lips"]]).all()


def test_lips_stilled_keep_the_faces_mood(portrait):
    noise = Speech.from_array(0.1 * np.random.default_rng(0).normal(size=16000).astype(np.float32), 16000)
    made = Motion.concatenate(list(animate(portrait, noise, lips=0).motions()))
    smile = [i for i, name in enumerate(magictalk.motion.ARKIT) if name.startswith("mouthSmile")]
    assert portrait.mood[smile].min() > 0.1  # the astronaut smiles, and softly goes on smiling
    np.testing.assert_allclose(made.coefficients[:, smile], np.tile(portrait.mood[smile], (25, 1)))


@pytest.fixture(scope="session")
def driving(shared):
    return shared / "videos/open" / sorted(p.name for p in (shared / "videos/open").glob("*.mp*"))[0]


def test_driving_video(portrait, driving):
    seen = Motion.from_video(driving).relative()
    everything = animate(portrait, driving=driving, driving_parts="all", duration=1.0)
    motion = Motion.concatenate(list(everything.motions()))
    assert everything.speech is not None and len(motion) == 25
    assert motion.coefficients == pytest.approx(seen.coefficients[:25], abs=1e-6)
    upper = animate(portrait, text="one two three four five six seven eight nine ten", driving=driving)
    motion = Motion.concatenate(list(upper.motions()))
    assert len(motion) == upper.frame_count
    n = min(len(motion), len(seen))
    assert motion.head[:n] == pytest.approx(seen.head[:n], abs=1e-6)
    assert np.abs(motion.coefficients[:n, 17] - seen.coefficients[:n, 17]).max() > 0.05


@pytest.fixture(scope="module")
def nodding(portrait, tmp_path_factory):
    """A video of a head that turns, and how it was asked to."""
    motion = Motion.zeros(30)
    motion.head[:, 1] = 0.15 * np.sin(np.arange(30) / 6)
    return animate(portrait, motion=motion).save(tmp_path_factory.mktemp("driving") / "nodding.mp4"), motion


def test_the_head_of_a_driving_video_is_put_on_any_face(portrait, nodding):
    path, asked = nodding
    speech = Speech.from_array(0.1 * np.random.default_rng(0).normal(size=16000 * 2).astype(np.float32), 16000)
    with pytest.warns(
        MagicTalkWarning, match=r"driving video lasts 1\.2 s and the speech 2\.0 s; at its end it runs back"
    ):
        made = animate(portrait, speech, driving=path, driving_parts="head", emotion="sad", seed=1)
    motion = Motion.concatenate(list(made.motions()))
    alone = Motion.concatenate(list(animate(portrait, speech, emotion="sad", seed=1).motions()))
    assert np.array_equal(motion.coefficients, alone.coefficients) and len(motion) == 50
    assert np.corrcoef(motion.head[:30, 1], asked.head[:, 1])[0, 1] > 0.95
    assert np.allclose(motion.head[30:50], motion.head[9:29][::-1], atol=1e-6)  # back from its last frame
    second = Speech.from_array(speech.samples()[:16000], 16000)
    others = [animate(portrait, second, driving=path, driving_parts="head", seed=s) for s in (1, 2)]
    assert others[0]._fingerprint() != others[1]._fingerprint()


def test_the_motion_prior_makes_takes_and_follows_a_head(portrait, nodding):
    speech = Speech.from_array(0.1 * np.random.default_rng(0).normal(size=16000).astype(np.float32), 16000)
    try:
        made = [Motion.concatenate(list(animate(portrait, speech, drive="mcdm", seed=s).motions())) for s in (1, 1, 2)]
    except WeightsError as error:
        pytest.skip(str(error))
    assert np.array_equal(made[0].head, made[1].head) and not np.allclose(made[0].head, made[2].head, atol=1e-3)
    led = animate(portrait, speech, drive="mcdm", driving=nodding[0], driving_parts="head")
    head = Motion.concatenate(list(led.motions())).head
    assert np.corrcoef(head[:, 1], nodding[1].head[:25, 1])[0, 1] > 0.8


def test_motion_of_a_recording(driving, astronaut, tmp_path):
    off_face = motion_of(driving)
    by_ear = motion_of(driving, "speech")
    assert np.abs(off_face.head).max() > 0 and abs(len(off_face) - len(by_ear)) <= 2
    assert (motion_of(driving, "video").coefficients == off_face.coefficients).all()


def test_importing_the_package_costs_nothing():
    code = (
        "import sys, magictalk; assert magictalk.__version__ and 'animate' in dir(magictalk)\n"
        "heavy = {'numpy', 'cv2', 'torch', 'mediapipe', 'av', 'numba'} & set(sys.modules); assert not heavy, heavy\n"
        "magictalk.animate, magictalk.Portrait, magictalk.Speech, magictalk.Motion\n"
        "heavy = {'torch', 'mediapipe', 'av', 'numba'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'anime'"):
        _ = magictalk.anime
