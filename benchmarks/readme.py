"""Write the figures that benchmarks saved into the README's tables.

    python benchmarks/readme.py

Each table stands between ``<!-- figures NAME -->`` and ``<!-- end -->`` and is made of ``docs/figures/NAME.json``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def table(rows: list[dict[str, object]]) -> str:
    """Markdown of a benchmark's rows."""
    lines = ["| figure | value | target | met |", "|---|---|---|---|"]
    for r in rows:
        met = {True: "yes", False: "**no**", None: ""}[r["met"]]  # type: ignore[index]
        value = f"{r['value']:.3g} {r['unit']}".strip()
        lines.append(f"| {r['figure']} | {value} | {r['target'] or ''} | {met} |")
    return "\n".join(lines)


def fill(text: str, folder: Path) -> str:
    """The README's text with every table made anew."""

    def replace(match: re.Match[str]) -> str:
        rows = json.loads((folder / f"{match[1]}.json").read_text())
        return f"<!-- figures {match[1]} -->\n{table(rows)}\n<!-- end -->"

    return re.sub(r"<!-- figures (\w+) -->.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(), ROOT / "docs" / "figures"))
