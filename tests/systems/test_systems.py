"""Every system gives as many frames as the speech is long, and the same ones for the same seed."""

import numpy as np
import pytest

from magictalk import Portrait, Speech
from magictalk.errors import OptionError
from magictalk.systems import load_system, names


@pytest.fixture(scope="module")
def portrait(astronaut) -> Portrait:
    return Portrait.from_array(np.ascontiguousarray(astronaut[20:240, 120:320]))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("samples", [8000, 8959, 40321])
def test_frames_follow_the_sound(portrait, name, samples):
    speech = Speech.from_array(0.1 * np.sin(np.arange(samples) / 20), 16000)
    system = load_system(name)
    frames = list(system(portrait, speech, 3))
    assert system.name == name and len(frames) == Speech.frame_count(samples)
    assert {(f.shape, f.dtype.name) for f in frames} == {((220, 200, 3), "uint8")}
    again = list(load_system(name)(portrait, speech, 3))
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))


def test_the_still_picture_does_not_move_and_the_rig_does(portrait):
    speech = Speech.say("Papa and mama.")
    still = list(load_system("still")(portrait, speech, 0))
    assert all(np.array_equal(frame, portrait.image) for frame in still)
    rig = list(load_system("rig")(portrait, speech, 0))
    assert len(rig) == len(still) and np.abs(rig[10].astype(int) - rig[20]).max() > 20


def test_an_unknown_system_lists_those_there_are():
    with pytest.raises(OptionError, match=r"no system named 'mcdm2'; expected one of rig, still"):
        load_system("mcdm2")
