"""ADFD, the audio-driven facial dynamics score of PortraitTalk: are the landmarks in place, and do they move alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from magictalk.errors import OptionError


def adfd(
    generated: ArrayLike,
    reference: ArrayLike,
    diagonal_px: float,
    w1: float = 1.0,
    w2: float = 1.0,
    printed: bool = False,
) -> float:
    """PortraitTalk, equation 4: ``w1 * place * w2 * movement``; 1 is best with both weights at 1.

    ``place = mean_t(1 - |L_gen - L_real| / d)``, where the norm runs over all landmarks of a frame together, so
    that it grows with their number ``n`` (by its square root) and may turn negative. The paper leaves ``n`` open;
    :class:`magictalk.metrics.dynamics.ADFD` takes iBUG's 68.

    ``movement`` compares motion vectors ``M_t = L_t - L_(t-1)``, all landmarks of a frame joined to one vector:

    * by default ``mean_t((cos(M_gen, M_real) + 1) / 2)``, what the text describes: the cosine's range moved from
      [-1, 1] to [0, 1]. Two faces at rest move alike (1); where only one moves, the cosine counts as 0 (1/2).
    * ``printed``: ``mean_t((M_gen . M_real + 1) / (2 |M_gen| |M_real|))``, as in print. There the +1 stands inside
      the numerator, before the division by the lengths, and the term is ``cos / 2 + 1 / (2 |M_gen| |M_real|)``:
      it depends on the unit of length, grows without bound as the vectors get short, is infinite for a face at
      rest, and nears 1/2 rather than 1 for long vectors that agree. The formula leaves ``t`` free; the mean over
      frames is ours, in both forms.

    As a product the score has no trade-off between its terms: ``w1`` and ``w2`` only scale it by ``w1 * w2``.

    Args:
        generated: landmarks ``[T, n, 2]`` in pixels, T at least 2.
        reference: the real ones, same shape.
        diagonal_px: ``d``, the largest distance between two points of the frame: its diagonal.
        w1: weight of the place.
        w2: weight of the movement.
        printed: the formula as printed rather than as meant.

    Raises:
        OptionError: the shapes differ, or there are fewer than two frames.
    """
    a, b = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape or a.ndim != 3 or len(a) < 2:
        raise OptionError(f"landmarks of shapes {a.shape} and {b.shape}; expected two alike [T, n, 2], T at least 2")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    place = (1 - np.linalg.norm(a - b, axis=1) / diagonal_px).mean()
    agreement = _printed if printed else _meant
    return float(w1 * place * w2 * agreement(np.diff(a, axis=0), np.diff(b, axis=0)).mean())


def _meant(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    dot, lengths = (a * b).sum(1), np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    still = ~a.any(1) & ~b.any(1)
    cosine = np.divide(dot, lengths, out=still.astype(np.float64), where=lengths > 0)
    return (cosine + 1) / 2


def _printed(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore"):
        return ((a * b).sum(1) + 1) / (2 * lengths)
