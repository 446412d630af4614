"""Log-mel on the frame grid: what a drive hears.

Eighty mel bands every 10 ms, four of them a video frame. Loudness and the microphone's colour are
taken out by a running mean of every band, in which loud moments weigh more than quiet ones, so that
pauses neither become the reference nor get amplified. All of it streams: chunk after chunk gives
what the whole gives.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

SAMPLE_RATE = 16000
"""Samples a second that analysis works at."""

HOP_SAMPLES = 160
"""Samples between two mel frames (10 ms)."""

WINDOW_SAMPLES = 400
"""Samples under one analysis window (25 ms)."""

MELS = 80
"""Mel bands."""

MELS_PER_FRAME = 4
"""Mel frames in one video frame at 25 fps."""

SILENCE = -3.5
"""The lowest value a feature takes: a band without sound."""

_FFT = 512
_FLOOR = 1e-9  # mean power of a band; digital silence sits here (-90 dB)
_MEMORY_FRAMES = 400.0  # time constant of the running mean: 4 s
_LOOKAHEAD_FRAMES = 20  # the mean at a moment already knows the next 0.2 s
_PRIOR_WEIGHT = 0.02  # how much loudness (sqrt of power, times frames) the prior outweighs
_PRIOR_LOG = -9.0  # what a band of speech at common levels averages
_NOTHING = 1e-4  # sound quieter than this (-80 dB) does not count at all


@lru_cache(maxsize=1)
def mel_filters() -> NDArray[np.float32]:
    """Triangular filters ``[257, 80]`` from 20 Hz to 8 kHz on the mel scale (HTK's), each of unit sum."""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)

    lowest, highest = mel(np.array([20.0, SAMPLE_RATE / 2]))
    edges = np.linspace(lowest, highest, MELS + 2)
    bins = mel(np.arange(_FFT // 2 + 1) * SAMPLE_RATE / _FFT)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rise, fall))
    # the lowest bands are narrower than a bin: give an empty one its nearest bin
    for band in np.flatnonzero(weights.sum(0) == 0):
        weights[np.abs(bins - edges[band + 1]).argmin(), band] = 1.0
    return (weights / weights.sum(0)).astype(np.float32)


def log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Natural log of mel power.

    Args:
        samples: float32 ``[N]`` at 16 kHz in [-1, 1].

    Returns:
        float32 ``[N // 160, 80]``; frame ``j`` is centred on sample ``160 j + 80``, with zeros beyond both ends.
    """
    frames = len(samples) // HOP_SAMPLES
    if frames == 0:
        return np.zeros((0, MELS), np.float32)
    side = (WINDOW_SAMPLES - HOP_SAMPLES) // 2
    padded = np.pad(np.asarray(samples, np.float32), (side, side))
    return _log_mel_of(np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES][:frames])


def _log_mel_of(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    hann = np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(windows * hann, _FFT)).astype(np.float32) ** 2 / np.sum(hann**2)
    return np.log(power @ mel_filters() + _FLOOR)


class Features:
    """Level-normalised log-mel of a stream.

    ``push`` samples as they come and ``finish`` at the end; the pieces joined are the features of the
    whole. Features lag the samples by 0.2 s, the look-ahead of the running mean.

    The mean of band ``b`` at frame ``t`` is ``sum_s w_s d^(t+h-s) x_s,b / sum_s w_s d^(t+h-s)`` over
    ``s <= t + h``: ``x`` log-mel, ``w`` the square root of the frame's power, ``d`` a 4 s decay and
    ``h`` the look-ahead.
    """

    def __init__(self) -> None:
        self._samples = np.zeros((WINDOW_SAMPLES - HOP_SAMPLES) // 2, np.float32)
        self._decay = float(np.exp(-1.0 / _MEMORY_FRAMES))
        start = np.full(MELS + 1, _PRIOR_WEIGHT * _PRIOR_LOG)
        start[MELS] = _PRIOR_WEIGHT
        self._state = (self._decay * start)[None]  # lfilter's: what is carried into the next output
        self._waiting = np.zeros((0, MELS), np.float32)
        self._ahead = _LOOKAHEAD_FRAMES

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples ``[N]``; returns the features ``[M, 80]`` that they complete."""
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        frames = max(0, (len(self._samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
        if frames == 0:
            return np.zeros((0, MELS), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._samples, WINDOW_SAMPLES)[::HOP_SAMPLES][:frames]
        mel = _log_mel_of(windows)
        self._samples = self._samples[frames * HOP_SAMPLES :]
        return self._normalise(mel)

    def finish(self) -> NDArray[np.float32]:
        """End the stream; returns the features ``[M, 80]`` still held back."""
        tail = self.push(np.zeros((WINDOW_SAMPLES - HOP_SAMPLES) // 2, np.float32))
        held = self._waiting - _mean_of(self._state[0] / self._decay)
        self._waiting = self._waiting[:0]
        return np.concatenate([tail, _scale(held)])

    def _normalise(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        loudness = np.maximum(0.0, np.sqrt(np.exp(mel).mean(1, keepdims=True, dtype=np.float64)) - _NOTHING)
        sums, self._state = lfilter(
            [1.0], [1.0, -self._decay], np.concatenate([mel * loudness, loudness], 1), axis=0, zi=self._state
        )
        skip = min(self._ahead, len(sums))  # these means belong to moments before the stream
        self._ahead -= skip
        mean = _mean_of(sums[skip:])
        self._waiting = np.concatenate([self._waiting, mel])
        done, self._waiting = self._waiting[: len(mean)], self._waiting[len(mean) :]
        return _scale(done - mean)


def _mean_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Band means from weighted sums ``[..., 81]``, weight last; the prior's where silence has outlasted the memory."""
    tiny = 1e-12
    return (sums[..., :MELS] + tiny * _PRIOR_LOG) / (sums[..., MELS:] + tiny)


def _scale(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Natural-log units to about [-2.5, 1.5]; what lies 70 dB under the mean is as good as silent."""
    return (np.clip(x, -16.0, 8.0) / 4.0 + 0.5).astype(np.float32)


def features(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Level-normalised log-mel ``[N // 160, 80]`` of whole samples ``[N]``; see :class:`Features`."""
    stream = Features()
    parts = [stream.push(samples), stream.finish()]
    return np.concatenate(parts)
