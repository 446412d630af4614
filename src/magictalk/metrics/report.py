"""Figures as tables: for the terminal, as JSON rows, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from magictalk.metrics.functional.lips import bootstrap

if TYPE_CHECKING:
    from rich.table import Table

ARROWS = {True: "↑", False: "↓", None: ""}
"""Which way is better: the papers' sign."""


@dataclass(frozen=True)
class Figure:
    """One figure over clips.

    Attributes:
        figure: its name.
        value: mean over clips, or the figure of all clips together; NaN where it was not computed.
        unit: of the value.
        higher_is_better: None where neither is.
        spread: standard deviation over clips; NaN of one clip, and of a figure of all together.
        low: lower bound of the mean's 95 % bootstrap interval over clips.
        high: its upper bound.
        n: clips.
        reason: why it was not computed.
    """

    figure: str
    value: float = math.nan
    unit: str = ""
    higher_is_better: bool | None = None
    spread: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""

    @staticmethod
    def over_clips(name: str, values: Sequence[float], unit: str = "", higher_is_better: bool | None = None) -> Figure:
        """The mean of a figure's values, one a clip, and how sure it is; NaNs are left out.

        A clip whose value is infinite (the PSNR of equal pictures) makes the mean infinite.
        """
        known = np.array([v for v in values if not math.isnan(v)], np.float64)
        if not len(known):
            return Figure(name, unit=unit, higher_is_better=higher_is_better, reason="no clip gave a value")
        if not np.isfinite(known).all():
            return Figure(name, float(known.max()), unit, higher_is_better, n=len(known))
        interval = bootstrap(known)
        spread = float(known.std(ddof=1)) if len(known) > 1 else math.nan
        low, high = (interval.low, interval.high) if len(known) > 1 else (math.nan, math.nan)
        return Figure(name, interval.mean, unit, higher_is_better, spread, low, high, len(known))

    def row(self) -> dict[str, Any]:
        """The figure as a JSON row; numbers that are not finite become None, an infinite value is told in words."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "figure": self.figure,
            "value": number(self.value),
            "unit": self.unit,
            "target": None,
            "met": None,
            "higher_is_better": self.higher_is_better,
            "spread": number(self.spread),
            "low": number(self.low),
            "high": number(self.high),
            "n": self.n,
            "reason": "infinite: the pictures are equal" if math.isinf(self.value) else self.reason,
        }


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        title: what was measured.
        figures: those computed, then those that were not.
        remarks: rules that were followed and what is odd, a sentence each.
        likeness: of each clip to its person, by number of the frame at 25 fps; NaN without a face.
    """

    title: str
    figures: Sequence[Figure]
    remarks: Sequence[str] = field(default_factory=tuple)
    likeness: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    @property
    def computed(self) -> list[Figure]:
        """Figures that have a value."""
        return [f for f in self.figures if not math.isnan(f.value)]

    def notes(self) -> list[str]:
        """What was not computed, by reason, and the remarks."""
        reasons: dict[str, list[str]] = {}
        for figure in self.figures:
            if math.isnan(figure.value):
                reasons.setdefault(figure.reason, []).append(figure.figure)
        return [*(f"not computed: {', '.join(names)}: {why}" for why, names in reasons.items()), *self.remarks]

    def json(self) -> str:
        """A list of rows."""
        return json.dumps([f.row() for f in self.figures], indent=2) + "\n"

    def csv(self) -> str:
        """A line a figure, under a header."""
        text = io.StringIO()
        rows = [f.row() for f in self.figures]
        writer = csv.DictWriter(text, [k for k in rows[0] if k not in ("target", "met")], extrasaction="ignore")
        writer.writeheader()
        for figure, row in zip(self.figures, rows, strict=True):
            writer.writerow(row | {"value": "" if math.isnan(figure.value) else figure.value})
        return text.getvalue()

    def drift(self) -> str:
        """Likeness over time as CSV: a line a frame that was looked at, under a header; empty without a face."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(("clip", "frame", "similarity"))
        for clip, curve in self.likeness.items():
            writer.writerows((clip, frame, "" if math.isnan(s) else round(s, 6)) for frame, s in curve.items())
        return text.getvalue()

    def markdown(self) -> str:
        """A table, and the notes as a list."""
        lines = [f"**{self.title}**", "", *markdown_table(_HEADER, [_cells(f) for f in self.computed]), ""]
        return "\n".join([*lines, *(f"* {note}" for note in self.notes())]) + "\n"

    def table(self) -> Table:
        """The computed figures for the terminal."""
        return rich_table(self.title, _HEADER, [_cells(f) for f in self.computed])


_HEADER = ("figure", "", "mean", "unit", "spread", "95 % interval", "n")


def _cells(f: Figure) -> list[str]:
    interval = "" if math.isnan(f.low) else f"{number(f.low)} … {number(f.high)}"
    spread = "" if math.isnan(f.spread) else number(f.spread)
    return [f.figure, ARROWS[f.higher_is_better], number(f.value), f.unit, spread, interval, str(f.n)]


def number(value: float) -> str:
    """Four significant digits, without exponent where that is readable; a dash for NaN."""
    if math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table: the first column to the left, the others to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (header, marks, *rows)]


def rich_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The same for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", vertical="bottom")
    for row in rows:
        table.add_row(*row)
    return table
