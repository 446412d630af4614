"""Figures as tables: what is not finite stays legal JSON, intervals hold the mean, nothing is lost on the way."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from magictalk.metrics.report import Figure, Report, markdown_table, number

REPORT = Report(
    "Two clips",
    [
        Figure.over_clips("SSIM", [0.8, 0.9], "", True),
        Figure.over_clips("PSNR", [math.inf, 31.0], "dB", True),
        Figure.over_clips("Sync-D", [7.0], "", False),
        Figure("FID", reason="needs inception, get it with a|b"),
    ],
    ["One remark."],
)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=30))
def test_mean_and_interval(values):
    figure = Figure.over_clips("x", values)
    known = [v for v in values if not math.isnan(v)]
    assert figure.n == len(known)
    if not known:
        assert math.isnan(figure.value) and figure.reason
        return
    assert figure.value == pytest.approx(np.mean(known), rel=1e-9, abs=1e-6)
    if len(known) > 1:
        slack = 1e-9 * max(map(abs, known))
        assert figure.low - slack <= figure.value <= figure.high + slack
        assert figure.spread == pytest.approx(np.std(known, ddof=1), rel=1e-9, abs=1e-6)
    else:
        assert math.isnan(figure.low) and math.isnan(figure.spread)


def test_json_is_strict_and_whole():
    rows = json.loads(REPORT.json(), parse_constant=lambda constant: pytest.fail(constant))
    assert [r["figure"] for r in rows] == ["SSIM", "PSNR", "Sync-D", "FID"]
    assert rows[0]["value"] == pytest.approx(0.85) and rows[0]["n"] == 2 and rows[0]["low"] <= 0.85 <= rows[0]["high"]
    assert rows[1]["value"] is None and "infinite" in rows[1]["reason"]
    assert rows[3]["value"] is None and rows[3]["reason"].startswith("needs inception")
    assert {"figure", "value", "unit", "target", "met"} <= set(rows[0])


def test_csv_has_a_line_a_figure():
    rows = list(csv.DictReader(io.StringIO(REPORT.csv())))
    assert [r["value"] for r in rows] == [str(rows[0]["value"]), "inf", "7.0", ""]
    assert rows[3]["reason"] == "needs inception, get it with a|b"


def test_markdown_and_terminal_show_the_same():
    text = REPORT.markdown()
    assert "| SSIM | ↑ | 0.85 |" in text and "| PSNR | ↑ | ∞ | dB |" in text and "| Sync-D | ↓ | 7 |" in text
    assert "* not computed: FID: needs inception, get it with a|b" in text and text.endswith("* One remark.\n")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(REPORT.table())
    shown = console.export_text()
    assert all(word in shown for word in ("Two clips", "SSIM", "↑", "0.85", "∞", "95 % interval"))


def test_bars_do_not_break_a_markdown_table():
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == ["| a | b |", "| --- | ---: |", "| x/y | 1 |"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (1234.5, "1234"), (12345.6, "12,346"), (math.nan, "—"), (-math.inf, "-∞"), (0.0, "0")],
)
def test_numbers(value, text):
    assert number(value) == text
