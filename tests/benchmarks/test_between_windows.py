from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from magictalk.drive.motion_prior import HOP
from magictalk.motion import Motion


def test_heads_that_jump_between_windows_are_found(script: Callable[[str], ModuleType]) -> None:
    """A head that turns evenly, and one that turns five times as fast where a window begins."""
    steps = np.full(3 * HOP, 0.01)
    steps[HOP::HOP] = 0.05
    even, jumping = Motion.zeros(3 * HOP), Motion.zeros(3 * HOP)
    even.head[:, 1], jumping.head[:, 1] = 0.01 * np.arange(3 * HOP), steps.cumsum() - steps[0]
    between = script("motion_prior").between_windows
    assert between([even]) == pytest.approx(1, rel=1e-3)
    assert between([jumping, jumping]) == pytest.approx(5, rel=1e-3)
