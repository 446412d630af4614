"""Systems side by side as tables: a row a system, the real videos first, a column a figure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from magictalk.metrics.protocols import PROTOCOLS
from magictalk.metrics.report import ARROWS, Figure, markdown_table, number, rich_table
from magictalk.metrics.rules import MISSING

if TYPE_CHECKING:
    from rich.table import Table

REAL = "ground truth"
"""What the real videos are called among systems."""
SPEED = "compute"
"""Figure: seconds to make a second of video, writing it included."""
PAPERS = (
    "FID", "FVD", "E-FID (ARKit)", "LSE-C", "LSE-D", "Sync-C (magictalk)", "Sync-D (magictalk)", "SSIM", "PSNR",
    "LPIPS", "M-LMD", "F-LMD", "ADFD", "CPBD", "Face-sim (dlib)", "Face-sim (ArcFace)", "DINO",
)  # fmt: skip
"""Figures that papers report, save those that need a prompt, which a dataset has not: a table of their own."""
BEYOND = ("A/V offset", "silent lips", "flicker", "identity drift", "faces lost", SPEED)
"""Figures that they lack."""
MOVEMENT = (
    "lip gap", "mouth width", "jaw drop", "blinks", "blink length", "brow speed", "lid speed", "head speed",
    "brow speed W1", "lid speed W1", "head speed W1", "head spectrum", "expression diversity", "head diversity",
)  # fmt: skip
"""Does the face move as people's do?"""
TABLES = {PAPERS: "the papers' figures", BEYOND: "what they lack", MOVEMENT: "movement like people's"}
"""A table each."""
CONFIDENCES = ("LSE-C", "Sync-C (magictalk)")
"""Figures that should not be above the real videos'."""


@dataclass
class Row:
    """A system under a protocol: its figures by name."""

    system: str
    figures: dict[str, Figure]


@dataclass
class Comparison:
    """What was found.

    Attributes:
        rows: by protocol, the real videos first.
        notes: rules that were followed, and what went wrong.
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def tables(self) -> list[Table]:
        """For the terminal: three a protocol, with headings a word a line."""
        return [
            rich_table(title, [name.replace(" ", "\n") for name in header], rows)
            for title, header, rows in self._tables()
        ]

    def markdown(self) -> str:
        """The same, and the remarks, as Markdown."""
        blocks = [[f"**{title}**", "", *markdown_table(header, rows), ""] for title, header, rows in self._tables()]
        lines = [line for block in blocks for line in block] + [f"* {remark}" for remark in self.remarks()]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """A list of rows, each figure of each system under each protocol."""
        rows: list[dict[str, Any]] = []
        for protocol, systems in self.rows.items():
            for row in systems:
                for figure in row.figures.values():
                    facts = {"protocol": protocol, "system": row.system}
                    rows.append(figure.row() | facts | {"figure": f"{protocol}, {row.system}: {figure.figure}"})
        return json.dumps(rows, indent=2) + "\n"

    def remarks(self) -> list[str]:
        """Why columns are empty, warnings, rules and failures, a sentence each."""
        return [*self._reasons(), *self._warnings(), *self.notes]

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        made = []
        for protocol, rows in self.rows.items():
            clips = max((f.n for row in rows[1:] for f in row.figures.values()), default=0)
            for columns, which in TABLES.items():
                header = ["system", *(_heading(rows[0].figures[name]) for name in columns)]
                cells = [[row.system, *(number(row.figures[name].value) for name in columns)] for row in rows]
                made.append((f"{PROTOCOLS[protocol]} ({clips} videos): {which}.", header, cells))
        return made

    def _reasons(self) -> list[str]:
        """What no system has, by reason and by the protocols in which it is so."""
        empty: dict[str, dict[str, str]] = {}  # of each figure: reasons by protocol
        for protocol, rows in self.rows.items():
            for name in chain(*TABLES):
                figures = [row.figures[name] for row in rows]
                if all(math.isnan(figure.value) for figure in figures):
                    empty.setdefault(name, {})[protocol] = figures[-1].reason
        groups: dict[str, list[str]] = {}
        for name, reasons in empty.items():
            why = next(iter(reasons.values())).replace(MISSING["reference"], "the real videos are not known")
            where = "" if len(reasons) == len(self.rows) else f" ({', '.join(reasons)})"
            groups.setdefault(f"{why}{where}", []).append(name)
        return [f"not computed: {', '.join(names)}: {why}" for why, names in groups.items()]

    def _warnings(self) -> list[str]:
        return [
            f"warning: {name} of {row.system} ({protocol}) is above the ground truth's, which is no success: never "
            "tune to one figure"
            for protocol, (real, *systems) in self.rows.items()
            for row in systems
            for name in CONFIDENCES
            if row.figures[name].value > real.figures[name].value
        ]


def _heading(figure: Figure) -> str:
    return " ".join(filter(None, (figure.figure, figure.unit, ARROWS[figure.higher_is_better])))
