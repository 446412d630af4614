"""The README's tables are made of the figures as they lie there."""

import json


def test_cases_have_a_row_each_and_figures_a_column(script, tmp_path):
    row, fill = script("table").row, script("readme").fill
    rows = [
        row("one: PSNR", 12.34, "dB"), row("one: PSNR, low", 11, "dB"), row("one: PSNR, high", 13, "dB"),
        row("two: PSNR", 10, "dB"), row("two: found", 0.5), row("memory", 100, "MB", "< 200", True),
    ]  # fmt: skip
    (tmp_path / "it.json").write_text(json.dumps(rows))
    made = fill("<!-- figures it across -->\nold\n<!-- end -->", tmp_path).splitlines()
    assert made[1:5] == ["| | PSNR dB | found |", "|---|---|---|", "| one | 12.3 [11, 13] | — |", "| two | 10 | 0.5 |"]
    assert made[-2] == "| memory | 100 MB | < 200 | yes |"


def test_a_commands_tables_are_folded_but_for_the_first(script, tmp_path):
    fill = script("readme").fill
    (tmp_path / "it.md").write_text("**a: b**\n\n| 1 |\n\n**c: d**\n\n| 2 |\n\n* a note\n")
    made = fill("<!-- figures it folded -->\nold\n<!-- end -->", tmp_path)
    shown, hidden = made.split("<details>")
    assert "| 1 |" in shown and "**c: d**\n\n| 2 |\n\n* a note" in hidden and "| 1 |" not in hidden
