"""What lips should do and the field does not measure: rest in silence, close for p, b and m."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from magictalk.metrics.functional.lips import closed_share, silences, stillness
from magictalk.metrics.mean import Mean


class SilentLips(Mean):
    """How much the lips move while the sound is silent: spread of gap over width in a clip's worst silence.

    Mean over clips; those without a silence of 0.3 s are left out. A frozen mouth scores best: read it beside LSE-C.
    """

    figure = "silent lips"
    higher_is_better = False

    def update(self, gap: ArrayLike, width: ArrayLike, samples: ArrayLike) -> None:
        """Take a clip: inner-lip gap and mouth width ``[T]`` of one unit at 25 fps, and its sound ``[N]`` at 16 kHz."""
        self.add(stillness(gap, width, silences(samples, 16000)).std)


class BilabialClosure(Mean):
    """Share of p, b and m at which the lips close."""

    figure = "bilabial closure"
    higher_is_better = True

    def update(self, gap: ArrayLike, width: ArrayLike, spans: Sequence[tuple[float, float]]) -> None:
        """Take inner-lip gap and mouth width ``[T]`` of one unit at 25 fps, and start and end in s of each sound."""
        self.add(closed_share(gap, width, spans))
