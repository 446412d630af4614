import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.audio.features import MELS, SILENCE, Features, features, log_mel, mel_filters


def _voice(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(16000 * seconds)
    knots = np.arange(0, n + 2000, 2000)
    loud = np.interp(np.arange(n), knots, rng.uniform(0, 1, len(knots)))
    return (0.2 * loud * np.sin(np.cumsum(rng.normal(0.3, 0.2, n))) + 1e-3 * rng.normal(size=n)).astype(np.float32)


def test_a_tone_lands_in_its_band() -> None:
    for hertz in (300.0, 1000.0, 3000.0, 6000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)
        band = int(log_mel(tone)[50].argmax())
        # centres of the bands by HTK's formula, worked out afresh
        mels = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 8000 / 700), MELS + 2)[1:-1]
        centre = 700 * (10 ** (mels[band] / 2595) - 1)
        assert abs(centre - hertz) < 0.06 * hertz + 20


def test_log_mel_agrees_with_a_plain_transform() -> None:
    x = _voice(0.3)
    j = 11
    piece = x[160 * j + 80 - 200 : 160 * j + 80 + 200].astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    k, n = np.arange(257)[:, None], np.arange(400)
    power = np.abs((piece * window * np.exp(-2j * np.pi * k * n / 512)).sum(1)) ** 2 / (window**2).sum()
    assert np.allclose(log_mel(x)[j], np.log(power @ mel_filters() + 1e-9), atol=1e-3)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 6000), min_size=1, max_size=30), st.integers(0, 3))
def test_chunks_give_what_the_whole_gives(sizes: list[int], seed: int) -> None:
    x = _voice(sum(sizes) / 16000 + 0.01, seed)
    stream, parts, at = Features(), [], 0
    for size in sizes:
        parts.append(stream.push(x[at : at + size]))
        at += size
    parts += [stream.push(x[at:]), stream.finish()]
    whole = features(x)
    assert whole.shape == (len(x) // 160, MELS)
    assert np.allclose(np.concatenate(parts), whole, atol=1e-5)


def test_loudness_and_microphone_are_taken_out() -> None:
    x = _voice(6.0)
    loud = features(x)
    assert np.abs(features(0.1 * x) - loud)[200:].mean() < 0.03
    coloured = np.convolve(x, [1.0, -0.6], "same").astype(np.float32)
    plain = np.abs(log_mel(coloured) - log_mel(x))[200:].mean() / 4
    assert np.abs(features(coloured) - loud)[200:].mean() < 0.5 * plain


def test_pauses_stay_quiet() -> None:
    x = _voice(2.0)
    pause = features(np.concatenate([x, np.zeros(16000, np.float32), x]))[220:280]
    assert (pause < features(x).mean() - 1).all()
    assert np.allclose(features(np.zeros(16000, np.float32))[50:], features(np.zeros(16000, np.float32))[60])
    assert features(x).min() >= SILENCE


def test_lengths_of_next_to_nothing() -> None:
    for n in (0, 1, 159, 160, 161):
        assert features(np.zeros(n, np.float32)).shape == (n // 160, MELS)
