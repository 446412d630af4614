"""Turns: who speaks when, and that the sound says the same."""

import numpy as np
import pytest

from magictalk import Speech
from magictalk.dialogue.script import Script
from magictalk.dialogue.turns import SOUND_RATE, length, phrase_ends, track, turns_of
from magictalk.errors import DialogueError, OptionError

FRAME = SOUND_RATE // 25


@pytest.fixture
def turns(script):
    return turns_of(script, gap=0.2)


def sound(speech: Speech) -> np.ndarray:
    return np.concatenate(list(speech.sound.blocks()))


def test_lines_follow_each_other_with_their_pauses(turns):
    assert [t.who for t in turns] == ["Ann", "Bob", "Ann"]
    assert [t.to for t in turns] == ["Bob", "Ann", "Bob"]
    assert turns[1].start - turns[0].end == 12  # its own pause, 0.5 s, in whole frames
    assert turns[2].start - turns[1].end == 5  # the gap
    assert turns[2].frames == 25  # the recording lasts a second
    for turn in turns:
        samples = len(turn.speech.samples())
        assert 0 <= turn.frames * 640 - samples < 640


def test_the_sound_is_each_line_at_its_time_and_silence_elsewhere(turns):
    heard = sound(track(turns))
    assert heard.shape == (length(turns) * FRAME, 2)
    quiet = np.ones(len(heard), bool)
    for turn in turns:
        quiet[turn.start * FRAME : turn.end * FRAME] = False
    assert not heard[quiet].any()
    tone = heard[turns[2].start * FRAME : turns[2].end * FRAME]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE) / SOUND_RATE)
    np.testing.assert_allclose(tone[500:-500, 0], expected[500:-500], atol=1e-3)  # the left side stays on the left
    assert np.abs(tone[:, 1]).max() < 1e-4


def test_a_voice_of_one_channel_keeps_its_level_on_both_sides(turns):
    own = turns[0].speech.samples()
    mixed = track(turns).samples()[turns[0].start * 640 :][: len(own)]
    assert np.corrcoef(own, mixed)[0, 1] > 0.99
    assert np.sqrt((mixed**2).mean()) == pytest.approx(np.sqrt((own**2).mean()), rel=0.05)


def test_the_voices_together_are_the_whole(turns):
    np.testing.assert_array_equal(sound(track(turns, "Ann")) + sound(track(turns, "Bob")), sound(track(turns)))
    assert len(track(turns, "Bob").samples()) == length(turns) * 640


def test_where_a_phrase_ends():
    loud, quiet = np.full(30, 0.3, np.float32), np.zeros(10, np.float32)
    short = np.full(5, 0.3, np.float32)
    assert phrase_ends(np.concatenate([loud, quiet, loud])).tolist() == [30, 70]
    assert phrase_ends(np.concatenate([loud, quiet[:3], loud])).tolist() == [63]  # no pause: within a word
    assert phrase_ends(np.concatenate([short, quiet, loud])).tolist() == [45]  # too little was said
    assert phrase_ends(np.zeros(8, np.float32)).tolist() == [8]


def test_three_characters_answer_whoever_spoke_last(content, folder):
    content["characters"]["Cy"] = {"portrait": "ann.png"}
    content["lines"] = [
        {"who": "Ann", "text": "Hello."},
        {"who": "Cy", "text": "Hello.", "to": "Bob"},
        {"who": "Cy", "text": "Well."},
        {"who": "Bob", "text": "Yes?"},
    ]
    assert [t.to for t in turns_of(Script.parse(content, folder))] == ["Cy", "Bob", "Ann", "Cy"]


def test_what_cannot_be_said_names_its_line(content, folder):
    content["characters"]["Bob"]["voice"] = "klingon"
    with pytest.raises(DialogueError, match="line 2, Bob: no voice named 'klingon'"):
        turns_of(Script.parse(content, folder))
    content["characters"]["Bob"]["voice"] = "en"
    content["lines"][2]["audio"] = "ann.png"
    with pytest.raises(DialogueError, match=r"line 3, Ann: .*ann\.png is a video or picture without sound"):
        turns_of(Script.parse(content, folder))


@pytest.mark.parametrize("gap", [-0.1, 11.0, float("nan")])
def test_gaps_out_of_range(script, gap):
    with pytest.raises(OptionError, match="gap is"):
        turns_of(script, gap)
