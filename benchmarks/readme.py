"""Write the figures that benchmarks saved into the README's tables.

    python benchmarks/readme.py

Each table stands between ``<!-- figures NAME -->`` and ``<!-- end -->`` and is made of ``docs/figures/NAME.json``, or,
where that is what a command wrote, is ``docs/figures/NAME.md`` as it is. ``<!-- figures NAME unfolded -->`` shows all
rows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown table of some rows; a row's ``NAME, low`` and ``NAME, high`` become its interval."""
    by_name = {r["figure"]: r["value"] for r in rows}
    made = ["| figure | value | target | met |", "|---|---|---|---|"]
    for r in rows:
        name = r["figure"]
        if name.endswith((", low", ", high")):
            continue
        value = f"{r['value']:.3g} {r['unit']}".strip()
        if f"{name}, low" in by_name:
            value += f" [{by_name[f'{name}, low']:.3g}, {by_name[f'{name}, high']:.3g}]"
        met = {True: "yes", False: "**no**", None: ""}[r["met"]]
        made.append(f"| {name} | {value} | {r['target'] or ''} | {met} |")
    return made


def table(rows: list[dict[str, Any]], unfolded: bool) -> str:
    """Rows that have a target, then the others folded away, or all as they come."""
    first = {r["figure"] for r in rows if r["target"]}
    aimed = [r for r in rows if r["figure"].removesuffix(", low").removesuffix(", high") in first]
    others = [r for r in rows if r not in aimed]
    if unfolded or not aimed or not others:
        return "\n".join(lines(rows))
    return "\n".join([*lines(aimed), "", "<details><summary>more</summary>", "", *lines(others), "", "</details>"])


def fill(text: str, folder: Path) -> str:
    """The README's text with every table made anew."""

    def replace(match: re.Match[str]) -> str:
        written = folder / f"{match[1]}.md"
        if written.is_file():
            made = written.read_text().strip()
        else:
            made = table(json.loads((folder / f"{match[1]}.json").read_text()), bool(match[2]))
        return f"<!-- figures {match[1]}{match[2]} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- figures (\w+)( unfolded|) -->.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(), ROOT / "docs" / "figures"))
