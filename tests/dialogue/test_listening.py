"""Listening: turned to who speaks, lips closed, nods at pauses; and the same however the motion is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk import Motion, Speech
from magictalk.dialogue.listening import Listening, seats
from magictalk.dialogue.turns import Turn, length
from magictalk.motion import ARKIT, GROUPS

AT = {name: i for i, name in enumerate(ARKIT)}
SILENCE = Speech.from_array(np.zeros(16000, np.float32), 16000)


def turn(who: str, to: str, start: int, frames: int, *pauses: int, emotion: str | None = None) -> Turn:
    return Turn(who, to, SILENCE, start, frames, (*pauses, start + frames), "words", emotion)


TURNS = (
    turn("Ann", "Bob", 10, 100, 50, 80, emotion="happy"),
    turn("Bob", "Ann", 120, 100, 170, emotion="angry"),
    turn("Cy", "Bob", 240, 100, 290),
)
SEATS = seats(["Ann", "Bob", "Cy"])
LENGTH = length(TURNS)


def chatter(frames: int) -> Motion:
    """A drive that never stops talking."""
    motion = Motion.zeros(frames)
    motion.coefficients[:, GROUPS["lips"]] = 0.3
    return motion


def part(who: str, yaw: float = 0.0, seed: int = 1, motion: Motion | None = None) -> Motion:
    return Motion.concatenate(list(Listening(TURNS, who, SEATS, yaw, seed)(iter([motion or chatter(LENGTH)]))))


def settled(turn: Turn) -> slice:
    return slice(turn.start + 30, turn.end - 6)


def test_seats_go_from_left_to_right():
    assert seats(["a", "b"]) == {"a": -1, "b": 1} and seats(["a", "b", "c"])["b"] == 0


@pytest.mark.parametrize("who", ["Ann", "Bob", "Cy"])
def test_lips_move_in_own_turns_only(who):
    jaw = part(who).coefficients[:, AT["jawOpen"]]
    speaking = np.zeros(LENGTH, bool)
    for t in TURNS:
        if t.who == who:
            speaking[t.start - 5 : t.end + 8] = True
            np.testing.assert_allclose(jaw[t.start : t.end], 0.3, atol=1e-6)
    assert not jaw[~speaking].any()
    assert np.abs(np.diff(jaw)).max() < 0.2  # they come to rest, they do not jump


def test_heads_and_eyes_turn_to_who_speaks():
    for who in SEATS:
        moved = part(who)
        for t in TURNS:
            other = t.to if t.who == who else t.who
            side = np.sign(SEATS[other] - SEATS[who])
            yaw = np.median(moved.head[settled(t), 1]) * side
            looks = moved.coefficients[settled(t)][:, [AT["eyeLookOutLeft"], AT["eyeLookInLeft"]]]
            gaze = np.median(looks[:, 0] - looks[:, 1]) * side
            assert yaw > np.radians(3 if t.who == who else 7) and gaze > 0.1, (who, t.who)


def test_who_listens_turns_further_than_who_speaks():
    yaw = abs(part("Ann").head[:, 1])
    assert np.median(yaw[settled(TURNS[1])]) > 1.5 * np.median(yaw[settled(TURNS[0])])


def test_a_picture_that_looks_there_already_turns_less():
    away, straight, there = (np.median(part("Ann", yaw).head[settled(TURNS[1]), 1]) for yaw in (-0.3, 0.0, 0.15))
    assert away > straight > there > 0 and away < 0.3


def test_turning_is_smooth():
    speed = np.degrees(np.abs(np.diff(part("Bob").head[:, 1]))) * 25
    assert 10 < speed.max() < 90  # degrees a second


def test_nods_come_after_pauses_of_others_and_never_before_speaking():
    down = 0
    for seed in range(20):
        listening = Listening(TURNS, "Bob", SEATS, 0.0, seed)
        pitch = listening.nod(np.arange(LENGTH))
        assert (pitch >= 0).all() and pitch.max() < np.radians(8)
        starts = np.flatnonzero((pitch[1:] > 0) & (pitch[:-1] == 0))
        after = [p for t in TURNS if t.who != "Bob" for p in t.pauses]
        assert all(any(0 < s - p <= 10 for p in after) for s in starts)
        assert not pitch[TURNS[1].start - 5 : TURNS[1].end].any()
        down += len(starts)
    assert 20 < down < 80
    assert part("Bob", seed=3).head[:, 0].max() == pytest.approx(
        Listening(TURNS, "Bob", SEATS, 0.0, 3).nod(np.arange(LENGTH)).max(), rel=0.3
    )


def test_angry_words_are_seldom_nodded_at():
    def nodding(emotion: str) -> int:
        turns = (turn("Ann", "Bob", 10, 400, 60, 120, 180, 240, 300, 360, emotion=emotion),)
        return sum((Listening(turns, "Bob", SEATS, 0.0, seed).nod(np.arange(440)) > 0).sum() for seed in range(20))

    assert nodding("angry") < 0.5 * nodding("happy")
    assert nodding("Angry 0.8") == nodding("sad 0.2 + angry") == nodding("angry")


def test_joy_is_shared_and_wears_off():
    smile = part("Bob", motion=Motion.zeros(LENGTH)).coefficients[:, AT["mouthSmileLeft"]]
    assert 0.1 < smile[100] < 0.5 and smile[200] < 0.02
    assert part("Ann", motion=Motion.zeros(LENGTH)).coefficients[:, AT["mouthSmileLeft"]].max() < 0.05


@pytest.mark.parametrize("emotion", ["Happy", "happy+sad 0", "sad 0 + happy 1"])
def test_joy_is_shared_however_it_is_written(emotion):
    turns = (turn("Ann", "Bob", 10, 100, emotion=emotion),)
    heard = Listening(turns, "Bob", SEATS, 0.0, 1)(iter([Motion.zeros(100)]))
    assert 0.1 < next(heard).coefficients[-1, AT["mouthSmileLeft"]] < 0.5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=12))
def test_chunks_of_any_size_give_the_same(sizes):
    whole = chatter(LENGTH)
    ends = np.clip(np.cumsum([0, *sizes, LENGTH]), 0, LENGTH)
    pieces = (whole[a:b] for a, b in pairwise(ends) if b > a)
    cut = Motion.concatenate(list(Listening(TURNS, "Bob", SEATS, 0.1, 5)(pieces)))
    again = part("Bob", 0.1, 5)
    np.testing.assert_allclose(cut.coefficients, again.coefficients, atol=1e-6)
    np.testing.assert_allclose(cut.head, again.head, atol=1e-6)


def test_seeds_differ():
    assert not np.array_equal(part("Bob", seed=1).head, part("Bob", seed=2).head)
