"""Make sound worse, as the world does: other microphones, rooms, noise, levels, speeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from magictalk.audio.features import MELS, SAMPLE_RATE

Samples = NDArray[np.float32]


def equalise(samples: Samples, rng: np.random.Generator) -> Samples:
    """A random microphone: a smooth curve over frequency, at times with the band limits of a phone or a codec."""
    spectrum = np.fft.rfft(samples)
    hertz = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    gain_db = np.interp(hertz, [0, 200, 500, 1000, 2000, 4000, 8000], 0.6 * rng.normal(0, 5, 7).cumsum())
    spectrum *= 10 ** (gain_db / 20)
    if rng.random() < 0.3:
        spectrum /= 1 + (hertz / rng.uniform(2500, 6000)) ** 8
    if rng.random() < 0.3:
        spectrum *= 1 - 1 / (1 + (hertz / rng.uniform(80, 300)) ** 4)
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def reverberate(samples: Samples, rng: np.random.Generator) -> Samples:
    """A random room: noise that decays by 60 dB in 0.1 to 0.6 s."""
    from scipy.signal import fftconvolve

    n = int(SAMPLE_RATE * rng.uniform(0.1, 0.6))
    response = rng.normal(size=n) * 10 ** (-3 * np.arange(n) / n)
    response *= rng.uniform(0.1, 0.8) / np.sqrt((response**2).sum())
    response[0] += 1
    return fftconvolve(samples, response)[: len(samples)].astype(np.float32)


def add_noise(samples: Samples, rng: np.random.Generator, voices: Sequence[Samples]) -> Samples:
    """Coloured noise at 3 to 35 dB, or one to four of ``voices`` talking behind at 8 to 40 dB."""
    from scipy.signal import lfilter

    snr_db = rng.uniform(3, 35)
    if rng.random() < 0.5 or not voices:
        noise = lfilter([1.0], [1.0, -rng.uniform(-0.2, 0.98)], rng.normal(size=len(samples)))
    else:
        snr_db += 5
        noise = np.zeros(len(samples))
        for _ in range(rng.integers(1, 5)):
            noise += np.roll(np.resize(voices[rng.integers(len(voices))], len(samples)), rng.integers(len(samples)))
    level = np.sqrt((samples**2).mean()) + 1e-6
    return (samples + noise * level / (np.sqrt((noise**2).mean()) + 1e-9) * 10 ** (-snr_db / 20)).astype(np.float32)


def spoil(samples: Samples, rng: np.random.Generator, voices: Sequence[Samples]) -> Samples:
    """A random few of the above, then a random level and, at times, clipping."""
    if rng.random() < 0.5:
        samples = equalise(samples, rng)
    if rng.random() < 0.35:
        samples = reverberate(samples, rng)
    if rng.random() < 0.6:
        samples = add_noise(samples, rng, voices)
    samples = samples * np.float32(10 ** (rng.uniform(-20, 6) / 20))
    return samples.clip(-1, 1) if rng.random() < 0.2 else samples


def stretch(values: NDArray[np.float32], speed: float, length: int) -> NDArray[np.float32]:
    """Rows of ``values [N, ...]`` played ``speed`` times as fast, ``length`` of them (the last one held)."""
    at = np.minimum(np.arange(length) * speed, len(values) - 1)
    low = np.minimum(at.astype(int), len(values) - 2) if len(values) > 1 else np.zeros(length, int)
    part = (at - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    high = np.minimum(low + 1, len(values) - 1)
    return (1 - part) * values[low] + part * values[high]


def mask(features: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Features ``[N, 80]`` with the voice's tract stretched by up to 10 %, and bands and moments missing."""
    if rng.random() < 0.6:
        at = np.clip(np.arange(MELS) * rng.uniform(0.88, 1.12), 0, MELS - 1)
        low = at.astype(int)
        part = (at - low).astype(np.float32)
        features = features[:, low] * (1 - part) + features[:, np.minimum(low + 1, MELS - 1)] * part
    features = features.copy()
    mean = features.mean()
    for _ in range(2):
        bands, frames = rng.integers(0, 14), rng.integers(0, 12)
        band = rng.integers(0, MELS - bands)
        frame = rng.integers(0, max(1, len(features) - frames))
        features[:, band : band + bands] = mean
        features[frame : frame + frames] = mean
    return features
