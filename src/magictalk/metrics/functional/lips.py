"""Maths of the lip figures: correlation with real lips, closures, stillness. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.errors import OptionError


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def pearson(a: ArrayLike, b: ArrayLike, where: ArrayLike | None = None) -> float:
    """Pearson's correlation of two series ``[T]``, over the frames ``where [T]`` is true; NaN if either is constant.

    Raises:
        OptionError: when the lengths differ.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise OptionError(f"series have shapes {x.shape} and {y.shape}; expected two alike of one axis")
    if where is not None:
        keep = np.asarray(where, bool)
        x, y = x[keep], y[keep]
    if len(x) < 2:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 1e-12 * len(x) else float("nan")


def bootstrap(values: ArrayLike, seed: int = 0, draws: int = 10_000) -> Interval:
    """Mean of ``values [N]`` and its 95 % interval by resampling (percentile method); NaNs are left out."""
    x = np.asarray(values, np.float64)
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    blocks = [min(100, draws - i) for i in range(0, draws, 100)]
    means = np.concatenate([x[rng.integers(0, len(x), (n, len(x)))].mean(1) for n in blocks])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(x.mean()), float(low), float(high))


def delay(series: ArrayLike, seconds: float, fps: float = 25.0) -> NDArray[np.float64]:
    """A series ``[T]`` that shows ``seconds`` later what the given one shows; ends held, linear in between."""
    x = np.asarray(series, np.float64)
    t = np.arange(len(x))
    return np.interp(t - seconds * fps, t, x)


def find_offset(
    predicted: ArrayLike,
    real: ArrayLike,
    where: ArrayLike,
    limit_s: float = 0.32,
    fps: float = 25.0,
    gain: float = 0.015,
) -> tuple[float, float]:
    """How far the real mouth is from the sound, judged by a prediction from that sound.

    Args:
        predicted: series ``[T, K]`` that a drive made of the sound.
        real: the same measures of the real mouth, ``[T, K]``.
        where: frames that count, ``[T]``.
        limit_s: offsets up to this are tried, a frame apart, the best refined by a parabola.
        fps: frames a second.
        gain: what the mean correlation must win for an offset other than 0.

    Returns:
        ``(offset_s, correlation)``: the mouth at t matches the sound at t + ``offset_s``; mean correlation there.
    """
    p, q, keep = np.asarray(predicted, np.float64), np.asarray(real, np.float64), np.asarray(where, bool)
    most = round(limit_s * fps)
    steps = np.arange(-most, most + 1)
    scores = np.array(
        [np.mean([pearson(delay(a, -k / fps, fps), b, keep) for a, b in zip(p.T, q.T, strict=True)]) for k in steps]
    )
    scores = np.nan_to_num(scores, nan=-1.0) - 0.004 * np.abs(steps)  # the smaller of two as good
    best = int(scores.argmax())
    if scores[best] - scores[most] < gain:
        return 0.0, float(scores[most])
    fine = 0.0
    if 0 < best < 2 * most:
        a, b, c = scores[best - 1 : best + 2]
        fine = 0.5 * (a - c) / (a - 2 * b + c)
    return float(steps[best] + fine) / fps, float(scores[best])


def silences(
    samples: ArrayLike, rate: int, shortest_s: float = 0.3, level_db: float = -50.0
) -> list[tuple[float, float]]:
    """Stretches ``(start, end)`` in seconds of at least ``shortest_s`` whose every 10 ms stay under ``level_db``.

    The level is relative to the loudest 10 ms of the sound, so that the answer does not change with its gain.
    """
    x = np.asarray(samples, np.float64)
    hop = rate // 100
    n = len(x) // hop
    if n == 0:
        return []
    power = (x[: n * hop].reshape(n, hop) ** 2).mean(1)
    quiet = power <= power.max() * 10 ** (level_db / 10)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    return [(a / 100, b / 100) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= shortest_s * 100]


def closed_share(
    gap: ArrayLike, width: ArrayLike, spans: Sequence[tuple[float, float]], fps: float = 25.0,
    slack_s: float = 0.06, limit: float = 0.08,
) -> NDArray[np.float64]:  # fmt: skip
    """For each span (seconds): do the lips close, gap under ``limit`` of mouth width, within it or ``slack_s`` of it?

    Args:
        gap: inner-lip gap ``[T]``.
        width: mouth width ``[T]``, same unit.
        spans: start and end of each sound that needs closed lips.
        fps: frames a second; frame ``k`` is at ``k / fps``.
        slack_s: how far outside the span a closure still counts.
        limit: the largest gap that counts as closed, relative to the width.

    Returns:
        1 or 0 a span; NaN where no mouth is known (NaN in ``gap`` or ``width``) near it.
    """
    ratio = np.asarray(gap, np.float64) / np.asarray(width, np.float64)
    time = np.arange(len(ratio)) / fps
    near = [(time >= a - slack_s - 1e-9) & (time <= b + slack_s + 1e-9) for a, b in spans]
    known = np.isfinite(ratio)
    return np.array([float((ratio[n] < limit).any()) if known[n].any() else np.nan for n in near])


@dataclass(frozen=True)
class Stillness:
    """How a mouth behaves in silence: spread and mean of gap over mouth width, the worst of all silences."""

    std: float
    mean: float
    count: int


def stillness(
    gap: ArrayLike, width: ArrayLike, spans: Sequence[tuple[float, float]], fps: float = 25.0, margin_s: float = 0.12
) -> Stillness:
    """Standard deviation and mean of gap over width inside silences, ``margin_s`` away from the speech around them.

    The margins leave a mouth the time to close and to get ready; a span too short to hold three frames is left out.
    """
    ratio = np.asarray(gap, np.float64) / np.asarray(width, np.float64)
    time = np.arange(len(ratio)) / fps
    stds, means = [], []
    for a, b in spans:
        inside = ratio[(time >= a + margin_s) & (time <= b - margin_s)]
        inside = inside[np.isfinite(inside)]
        if len(inside) >= 3:
            stds.append(inside.std())
            means.append(inside.mean())
    return Stillness(max(stds, default=float("nan")), max(means, default=float("nan")), len(stds))
