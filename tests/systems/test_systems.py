"""Every system gives as many frames as the speech is long, and the same ones for the same seed."""

import numpy as np
import pytest

from magictalk import Portrait, Speech
from magictalk.errors import OptionError, WeightsError
from magictalk.systems import System, load_system, names
from magictalk.systems.emodiff import other_moments


@pytest.fixture(scope="module")
def portrait(astronaut) -> Portrait:
    return Portrait.from_array(np.ascontiguousarray(astronaut[20:240, 120:320]))


GENERATED = "magic-talk", "magic-talk-noise", "portrait-talk", "portrait-talk-noise", "mcdm", "mcdm-noise"
"""Systems that are too slow for more than half a second."""


def load(name: str) -> System:
    """A system, where its weights are."""
    try:
        return load_system(name)
    except WeightsError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "samples"),
    [(name, n) for name in names() for n in (4000, 8000, 8959, 40321) if (n == 4000) == (name in GENERATED)],
)
def test_frames_follow_the_sound(portrait, name, samples):
    speech = Speech.from_array(0.1 * np.sin(np.arange(samples) / 20), 16000)
    system = load(name)
    frames = list(system(portrait, speech, 3))
    assert system.name == name and len(frames) == Speech.frame_count(samples)
    size = (128, 128, 3) if name in GENERATED else (220, 200, 3)
    assert {(f.shape, f.dtype.name) for f in frames} == {(size, "uint8")}
    again = list(load_system(name)(portrait, speech, 3))
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))


def test_the_still_picture_does_not_move_and_others_do(portrait):
    speech = Speech.say("Papa and mama.")
    still = list(load_system("still")(portrait, speech, 0))
    assert all(np.array_equal(frame, portrait.image) for frame in still)
    moving = list(load_system("audio2bs")(portrait, speech, 0))
    assert len(moving) == len(still) and np.abs(moving[10].astype(int) - moving[20]).max() > 20


def test_the_control_hears_other_moments():
    speech = Speech.from_array(np.arange(1001) / 1001, 16000)
    assert 1001 * other_moments(speech).samples() == pytest.approx([*range(501, 1001), *range(501)], abs=0.01)


def test_lips_of_the_three_emodiffs_differ(portrait):
    speech = Speech.say("Papa and mama may buy more papers by the pump.")
    frames = {n: list(load(n)(portrait, speech, 0)) for n in ("emodiff", "emodiff-unrefined", "emodiff-shuffled")}
    refined, *others = (np.stack(video).astype(int) for video in frames.values())
    assert all(video.shape == refined.shape and np.abs(video - refined).max() > 20 for video in others)


def test_an_unknown_system_lists_those_there_are():
    with pytest.raises(OptionError, match=r"no system named 'mcdm2'; expected one of audio2bs, emodiff, "):
        load_system("mcdm2")
