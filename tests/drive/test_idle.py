import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.drive.idle import IdleDrive
from magictalk.errors import OptionError
from magictalk.motion import ARKIT, GROUPS, Motion


def _talk(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of noise, four a second, in phrases with pauses."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(16000 * seconds)) / 16000
    return (0.1 * np.sin(4 * np.pi * t) ** 2 * ((t % 4) < 3) * rng.normal(size=len(t))).astype(np.float32)


def _run(seed: int, samples: np.ndarray, cuts: list[int] | None = None) -> Motion:
    return Motion.concatenate(list(IdleDrive(seed).stream(iter(np.split(samples, sorted(cuts or []))))))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 100_000), max_size=20), st.integers(0, 100))
def test_pieces_of_any_size_give_the_same_motion(cuts: list[int], seed: int) -> None:
    samples = _talk(6)
    whole, parts = _run(seed, samples), _run(seed, samples, cuts)
    assert np.array_equal(whole.coefficients, parts.coefficients) and np.array_equal(whole.head, parts.head)


@pytest.mark.parametrize("n", [0, 319, 321, 640, 15999, 32001])
def test_sound_decides_the_length(n: int) -> None:
    assert sum(len(m) for m in IdleDrive(1).stream(iter([np.zeros(n, np.float32)]))) == round(n / 640)


def test_seeds_decide_the_motion() -> None:
    assert not np.allclose(_run(0, _talk(4)).head, _run(1, _talk(4)).head)
    with pytest.raises(OptionError, match="-1"):
        IdleDrive(-1)


def test_blinks_are_as_people_blink() -> None:
    minutes, counts, widths, gaps = 4, 0, [], []
    for seed in range(3):
        lid = _run(seed, _talk(60 * minutes, seed)).coefficients[:, ARKIT.index("eyeBlinkLeft")]
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (lid > 0.3).astype(int), [0]])))
        counts += len(edges) // 2
        widths += list(edges[1::2] - edges[::2])
        gaps += list(np.diff(edges[::2]))
        assert lid.max() > 0.85
    assert 14 <= counts / (3 * minutes) <= 21
    assert 3 <= np.mean(widths) <= 7  # frames: 120 to 280 ms
    assert min(gaps) >= 20


def test_the_head_moves_a_little_and_smoothly() -> None:
    motion = _run(3, _talk(120))
    degrees = np.degrees(motion.head[:, :3])
    assert np.abs(degrees).max() < 7
    assert (degrees.std(0) > 0.5).all() and (degrees.std(0) < 3).all()
    assert np.abs(np.diff(degrees, axis=0)).max() < 2.5  # a frame
    assert np.abs(motion.head[:, 3:]).max() < 0.25


def test_pauses_are_calmer_than_speech() -> None:
    speeds = []
    for samples in (_talk(120), np.zeros(120 * 16000, np.float32)):
        speeds.append(np.mean([np.abs(np.diff(_run(s, samples).head[:, :3], axis=0)).mean() for s in range(2)]))
    assert speeds[1] < 0.8 * speeds[0]


def test_lips_rest_and_the_rest_stays_in_range() -> None:
    coefficients = _run(0, _talk(60)).coefficients
    assert not coefficients[:, list(GROUPS["lips"])].any()
    assert coefficients.min() >= 0 and coefficients.max() <= 1
    looks = [i for i, name in enumerate(ARKIT) if name.startswith("eyeLook")]
    assert coefficients[:, looks].max() < 0.5
    # eyes move together: to the person's left is out for the left eye and in for the right
    assert np.array_equal(
        coefficients[:, ARKIT.index("eyeLookOutLeft")], coefficients[:, ARKIT.index("eyeLookInRight")]
    )


def test_an_hour_is_no_longer_in_memory_than_a_second() -> None:
    import tracemalloc

    second = _talk(1)
    tracemalloc.start()
    for _ in IdleDrive(0).stream(second for _ in range(120)):
        pass
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()
