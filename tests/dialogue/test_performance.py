"""The dialogue end to end: real voices, real pictures, a real file."""

from itertools import pairwise

import numpy as np
import pytest

from magictalk import Motion, Speech
from magictalk.dialogue.performance import mood, perform
from magictalk.dialogue.script import Script
from magictalk.dialogue.turns import track, turns_of
from magictalk.errors import DialogueError, OptionError, VideoError
from magictalk.motion import ARKIT
from magictalk.style import Style
from magictalk.video import probe, read_frames

AT = {name: i for i, name in enumerate(ARKIT)}


@pytest.fixture(scope="module")
def quick(folder) -> Script:
    """Two short lines."""
    characters = {
        "Ann": {"portrait": "ann.png", "voice": "en"},
        "Bob": {"portrait": "bob.png", "voice": "en"},
    }
    lines = [{"who": "Ann", "text": "Where were you?"}, {"who": "Bob", "text": "I was here."}]
    return Script.parse({"characters": characters, "lines": lines}, folder)


@pytest.fixture(scope="module")
def made(quick):
    return perform(quick, height=128, drive="audio2bs", burn=True)


@pytest.fixture(scope="module")
def saved(made, tmp_path_factory):
    return made.save(tmp_path_factory.mktemp("out") / "dialogue.mp4")


@pytest.fixture(scope="module")
def motions(made) -> list[Motion]:
    return [Motion.concatenate(list(m)) for m in made.motions()]


def test_the_file_is_as_long_as_its_sound(made, saved):
    info = probe(saved)
    assert (info.width, info.height) == made.frame_size
    assert len(list(read_frames(saved, 25))) == made.frame_count == made.turns[-1].end + 20
    assert Speech.open(saved).duration == pytest.approx(made.frame_count / 25, abs=0.03)


def test_each_line_is_heard_at_its_time(made, saved):
    heard = Speech.open(saved).samples()
    for turn in made.turns:
        own = turn.speech.samples()
        part = heard[turn.start * 640 - 800 : turn.start * 640 + len(own) + 800]
        lags = np.correlate(part, own, "valid")
        assert abs(int(lags.argmax()) - 800) < 40  # within 2.5 ms
        alike = np.corrcoef(heard[turn.start * 640 :][: len(own)], own)[0, 1]
        assert alike > 0.9
    assert np.abs(heard[: made.turns[0].start * 640 - 1000]).max() < 0.01


def test_who_listens_keeps_the_lips_closed(made, motions):
    first, second = made.turns
    ann, bob = (m.coefficients[:, AT["jawOpen"]] for m in motions)
    assert not bob[first.start : first.end].any() and not ann[second.start + 8 : second.end].any()
    assert ann[first.start : first.end].max() > 0.05 and bob[second.start : second.end].max() > 0.05


def test_they_face_each_other_and_blink(made, motions):
    first, second = made.turns
    assert motions[1].head[first.end - 5, 1] < -0.05 and motions[0].head[second.end - 5, 1] > 0.05
    assert max(m.coefficients[:, AT["eyeBlinkLeft"]].max() for m in motions) > 0.8


def test_motion_is_as_long_as_the_film(made, motions):
    assert [len(m) for m in motions] == [made.frame_count] * 2


def test_frames_from_the_middle_are_the_same(made):
    whole = list(made.frames())
    for a, b in zip(whole[-7:], made.frames(len(whole) - 7), strict=True):
        np.testing.assert_array_equal(a, b)


def test_subtitles_change_the_picture_below_only(quick, made):
    during = made.turns[0].start + 5
    bare = next(perform(quick, height=128, drive="audio2bs").frames(during))
    change = np.abs(bare.astype(int) - next(made.frames(during))).max(2)
    assert change[128 * 6 // 10 :].max() > 100 and not change[: 128 // 2].any()


def test_shots_show_one_at_a_time(quick, made):
    shots = perform(quick, layout="shots", height=128, drive="audio2bs")
    assert shots.frame_size[0] < made.frame_size[0] and shots.frame_count == made.frame_count
    frames = list(shots.frames())
    assert len(frames) == made.frame_count
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    cut = int(np.argmax(steps)) + 1
    assert made.turns[0].end <= cut <= made.turns[1].start and steps[cut - 1] > 5 * np.sort(steps)[-2]


def test_the_same_seed_gives_the_same(quick, motions):
    again, other = (perform(quick, height=128, drive="audio2bs", seed=seed).motions() for seed in (0, 1))
    np.testing.assert_array_equal(Motion.concatenate(list(again[0])).head, motions[0].head)
    assert not np.array_equal(Motion.concatenate(list(other[0])).head, motions[0].head)


def test_the_largest_seed_is_one(quick):
    drawn = [next(m).head for m in perform(quick, height=128, drive="audio2bs", seed=2**32 - 1).motions()]
    assert not np.array_equal(*drawn)


def test_moods_follow_the_lines(content, folder):
    content["lines"].append({"who": "Ann", "text": "Ah!", "emotion": "happy", "pause": 0})
    turns = turns_of(Script.parse(content, folder))
    ann = mood(turns, "Ann")
    angry, happy = (Style.parse(e).expression([0.0])[0] for e in ("angry 0.8", "happy"))
    at = {t: ann.expression([t / 25])[0] for t in (0, turns[0].end, turns[1].end, turns[2].end - 15, turns[3].end)}
    np.testing.assert_allclose(at[0], 0)
    np.testing.assert_allclose(at[turns[0].end], angry, atol=1e-6)
    np.testing.assert_allclose(at[turns[1].end - 0], 0.3 * angry, atol=0.3)
    np.testing.assert_allclose(at[turns[2].end - 15], 0, atol=1e-6)
    np.testing.assert_allclose(at[turns[3].end], happy, atol=0.05)
    assert not mood(turns, "Bob").expression(np.arange(0, 9, 0.1)).any()


def test_a_character_has_a_mood_of_their_own(content, folder):
    content["characters"]["Bob"]["emotion"] = "happy"
    turns = turns_of(Script.parse(content, folder))
    assert mood(turns, "Bob").expression([turns[1].end / 25])[0, AT["mouthSmileLeft"]] > 0.3


def test_emotions_need_a_drive_that_has_some(script):
    with pytest.raises(OptionError, match="drive audio2bs has none"):
        perform(script, drive="audio2bs")


def test_a_broken_job_leaves_nothing(quick, tmp_path, content, folder):
    made = perform(quick, height=128, drive="audio2bs")

    def stop(done: int, _: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.save(tmp_path / "a.mp4", progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.mp4").write_bytes(b"mine")
    with pytest.raises(VideoError, match="exists"):
        made.save(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == b"mine"


def test_memory_does_not_grow_with_the_dialogue(content, folder):
    """The sound of minutes comes in pieces of a second at most, however it is silent."""
    content["lines"] = [{"who": w, "audio": "tone.wav", "pause": 59} for w in ("Ann", "Bob") * 3]
    turns = turns_of(Script.parse(content, folder))
    blocks = [len(b) for b in track(turns, "Bob").sound.blocks()]
    assert sum(blocks) > 5 * 60 * 48000 and max(blocks) <= 48000


def test_pictures_without_a_face_name_the_character(content, folder, tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 200), "grey").save(tmp_path / "wall.png")
    content["characters"]["Bob"]["portrait"] = str(tmp_path / "wall.png")
    with pytest.raises(DialogueError, match="Bob: no face found in wall"):
        perform(Script.parse(content, folder))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"layout": "circle"}, "layout is 'circle'"),
        ({"seed": -1}, "seed is -1; expected 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296; expected 0 to 4294967295"),
        ({"gap": -1}, "gap is -1"),
        ({"shortest_shot": -1}, "shortest shot is -1"),
        ({"shortest_shot": 3601}, "shortest shot is 3601 s; expected 0 to 3600"),
        ({"height": 99}, "height is 99"),
        ({"drive": "magic"}, "magic"),
    ],
)
def test_options_out_of_range(script, option, says):
    with pytest.raises(OptionError, match=says):
        perform(script, **option)
