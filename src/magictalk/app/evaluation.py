"""The commands ``evaluate`` and ``benchmark``: parse, call the library, print."""

from __future__ import annotations


def evaluate_command() -> None:
    """Measure generated videos."""


def benchmark_command() -> None:
    """Measure systems on a dataset."""
