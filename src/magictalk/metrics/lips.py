"""What lips should do and the field does not measure: go with real ones, rest in silence, close for p, b and m."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from magictalk.face.rig import inner_lip_gap, jaw_drop, mouth_width
from magictalk.metrics.functional.lips import closed_share, pearson, silences, stillness
from magictalk.metrics.mean import Mean

MEASURES = {"lip gap": inner_lip_gap, "mouth width": mouth_width, "jaw drop": jaw_drop}
"""What is measured of a mouth in face space."""
QUIET_DB = -35.0
"""Sound this far under a clip's loudest 10 ms is silence. Rooms hum: at -50 dB, few recordings hold any."""


class LipCorrelation(Mean):
    """Pearson's correlation of a measure of the mouth with that of the real mouth over time, mean over clips.

    Args:
        measure: ``"lip gap"`` between the middles of the inner lips, ``"mouth width"`` between its corners, or
            ``"jaw drop"`` from the nose's tip to the chin.
    """

    unit = "r"
    higher_is_better = True

    def __init__(self, measure: Literal["lip gap", "mouth width", "jaw drop"], **options: Any) -> None:
        super().__init__(**options)
        self.figure = measure
        self.measure = MEASURES[measure]

    def update(self, generated: ArrayLike, reference: ArrayLike) -> None:
        """Take a clip's meshes in face space ``[T, 478, 3]``, and the real ones; all frames show a face."""
        self.add(pearson(self.measure(generated), self.measure(reference)))


class SilentLips(Mean):
    """How much the lips move while the sound is silent: spread of gap over width in a clip's worst silence.

    Silence is sound under ``QUIET_DB``. Mean over clips; those without a silence of 0.3 s are left out. A frozen mouth
    scores best: read it beside LSE-C.
    """

    figure = "silent lips"
    higher_is_better = False

    def update(self, gap: ArrayLike, width: ArrayLike, samples: ArrayLike) -> None:
        """Take a clip: inner-lip gap and mouth width ``[T]`` of one unit at 25 fps, and its sound ``[N]`` at 16 kHz."""
        self.add(stillness(gap, width, silences(samples, 16000, level_db=QUIET_DB)).std)


class BilabialClosure(Mean):
    """Share of p, b and m at which the lips close."""

    figure = "bilabial closure"
    higher_is_better = True

    def update(self, gap: ArrayLike, width: ArrayLike, spans: Sequence[tuple[float, float]]) -> None:
        """Take inner-lip gap and mouth width ``[T]`` of one unit at 25 fps, and start and end in s of each sound."""
        self.add(closed_share(gap, width, spans))
