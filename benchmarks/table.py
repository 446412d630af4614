"""Print a benchmark's figures as a table, and write them as JSON rows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def row(figure: str, value: float, unit: str = "", target: str | None = None, met: bool | None = None) -> Row:
    """One figure; ``target`` and ``met`` where there is something to reach."""
    value = float(value)
    return {"figure": figure, "value": value, "unit": unit, "target": target, "met": None if met is None else bool(met)}


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """The option every benchmark has."""
    parser.add_argument("--json", type=Path, help="also write the figures to this file, as a list of rows")


def report(title: str, rows: list[Row], json_path: Path | None = None) -> None:
    """Print the rows, and write them to ``json_path`` when given."""
    table = Table("figure", "value", "unit", "target", "met", title=title)
    for r in rows:
        met = "" if r["met"] is None else ("yes" if r["met"] else "NO")
        table.add_row(r["figure"], f"{r['value']:.4g}", r["unit"], r["target"] or "", met)
    Console(width=140).print(table)
    if json_path:
        json_path.write_text(json.dumps(rows, indent=2) + "\n")
