"""Write the figures that benchmarks saved into the README's tables.

    python benchmarks/readme.py

Each table stands between ``<!-- figures NAME -->`` and ``<!-- end -->`` and is made of ``docs/figures/NAME.json``, or,
where that is what a command wrote, is ``docs/figures/NAME.md`` as it is. ``<!-- figures NAME unfolded -->`` shows all
rows; ``<!-- figures NAME across -->`` gives each ``CASE: figure`` a cell in the row of its case; ``<!-- figures NAME
folded -->`` folds all tables but the first of what a command wrote.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def digits(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"


def interval(row: dict[str, Any], by_name: dict[str, float], unit: str = "") -> str:
    """A value with its unit, and where there are rows ``NAME, low`` and ``NAME, high``, what they span."""
    name, value = row["figure"], f"{digits(row['value'])} {unit}".strip()
    if f"{name}, low" not in by_name:
        return value
    return f"{value} [{digits(by_name[f'{name}, low'])}, {digits(by_name[f'{name}, high'])}]"


def named(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows that are no end of an interval, and all values by name."""
    shown = [r for r in rows if not r["figure"].endswith((", low", ", high"))]
    return shown, {r["figure"]: r["value"] for r in rows}


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown table of some rows, one below the other."""
    shown, by_name = named(rows)
    made = ["| figure | value | target | met |", "|---|---|---|---|"]
    for r in shown:
        met = {True: "yes", False: "**no**", None: ""}[r["met"]]
        made.append(f"| {r['figure']} | {interval(r, by_name, r['unit'])} | {r['target'] or ''} | {met} |")
    return made


def across(rows: list[dict[str, Any]]) -> str:
    """Markdown table with a row a case and a column a figure; what is of no case follows, one below the other."""
    shown, by_name = named(rows)
    of_cases = [r for r in shown if ": " in r["figure"]]
    cells = {tuple(r["figure"].split(": ", 1)): interval(r, by_name) for r in of_cases}
    units = {r["figure"].split(": ", 1)[1]: r["unit"] for r in of_cases}
    made = [
        f"| | {' | '.join(f'{name} {unit}'.strip() for name, unit in units.items())} |",
        "|---" * (len(units) + 1) + "|",
    ]
    for case in dict.fromkeys(case for case, _ in cells):
        made.append(f"| {case} | {' | '.join(cells.get((case, name), '—') for name in units)} |")
    rest = [r for r in rows if ": " not in r["figure"]]
    return "\n".join([*made, "", *lines(rest)] if rest else made)


def table(rows: list[dict[str, Any]], how: str) -> str:
    """Rows that have a target, then the others folded away; or all, ``unfolded`` or ``across`` as ``how`` says."""
    if how == "across":
        return across(rows)
    first = {r["figure"] for r in rows if r["target"]}
    aimed = [r for r in rows if r["figure"].removesuffix(", low").removesuffix(", high") in first]
    others = [r for r in rows if r not in aimed]
    if how or not aimed or not others:
        return "\n".join(lines(rows))
    return "\n".join([*lines(aimed), "", *folded(lines(others))])


def folded(text: list[str]) -> list[str]:
    """Lines that are there when one asks for more."""
    return ["<details><summary>more</summary>", "", *text, "", "</details>"]


def fill(text: str, folder: Path) -> str:
    """The README's text with every table made anew."""

    def replace(match: re.Match[str]) -> str:
        written = folder / f"{match[1]}.md"
        if written.is_file():
            made = written.read_text().strip()
            first, *others = made.split("\n\n**")
            if match[2]:
                made = "\n".join([first, "", *folded(["**" + "\n\n**".join(others)])])
        else:
            made = table(json.loads((folder / f"{match[1]}.json").read_text()), match[2].strip())
        return f"<!-- figures {match[1]}{match[2]} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- figures (\w+)( unfolded| across| folded|) -->.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(), ROOT / "docs" / "figures"))
