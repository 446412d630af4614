import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.data.contact_sheet import choose, picture
from magictalk.data.dataset import Dataset
from magictalk.data.report import histograms, statistics, write_report
from magictalk.data.table import TABLE, ClipRecord, read_table
from magictalk.errors import DatasetError

Write = Callable[..., Path]

RECORDS = [
    ClipRecord("a-0", "a.mp4", identity="anna", split="train", language="en", duration=4.0, offset_s=0.08,
               corrected=True, sync_score=0.5, sharpness=0.6, face_px=200.0, brightness=0.5, licence="open"),
    ClipRecord("a-1", "a.mp4", identity="anna", split="train", language="en?", duration=2.0, offset_s=0.0,
               sync_score=0.2, sharpness=0.5, face_px=210.0, brightness=0.4, licence="open"),
    ClipRecord("b-0", "b.mp4", identity="bo <b>&", split="test", language="zh", duration=3.0, face_px=100.0),
    ClipRecord("c-0", "c<i>.mp4", status="dropped", stage="face", reason="several faces", duration=9.0, end=9.0),
    ClipRecord("d-0", "d.mp4", status="dropped", stage="quality", reason="blurred", duration=6.0, face_px=40.0),
    ClipRecord("e-0", "e.mp4", status="dropped", stage="face", reason="several faces", duration=12.0),
]  # fmt: skip
SAME = np.eye(128, dtype=np.float32)[0]


@pytest.fixture(scope="module")
def folder(write_dataset: Write) -> Path:
    made = write_dataset(RECORDS, {"a-0": SAME, "a-1": SAME, "b-0": SAME * 1.1})
    write_report(made, read_table(made / TABLE), seconds_taken=90.0)
    return made


def test_statistics_are_those_of_table_1() -> None:
    counted = statistics(RECORDS)
    assert counted.table() == {
        "Languages": "2", "Identities": "2", "Clips": "3", "Total length": "0.1 min", "Mean length": "3.0 s",
    }  # fmt: skip
    assert counted.hours == pytest.approx(9 / 3600) and counted.raw_hours == pytest.approx(36 / 3600)
    assert list(counted.splits) == ["train", "test"]
    assert (counted.splits["train"].clips, counted.splits["train"].identities) == (2, 1)
    assert counted.by_language["en"].clips == 2 and counted.by_licence["unknown"].clips == 1
    assert counted.dropped == {("face", "several faces"): 2, ("quality", "blurred"): 1}


def test_nothing_kept_and_nothing_at_all() -> None:
    for records in ([], RECORDS[3:]):
        counted = statistics(records)
        assert counted.clips == counted.identities == counted.languages == 0 and counted.mean_s == 0
        assert histograms(records) == []


VALUES = st.floats(-1e4, 1e4).filter(lambda v: v == 0 or abs(v) > 1e-3)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30), st.lists(VALUES, max_size=10))
def test_a_histogram_counts_every_clip_once(kept: list[float], dropped: list[float]) -> None:
    records = [ClipRecord(f"k{i}", "", offset_s=v) for i, v in enumerate(kept)]
    records += [ClipRecord(f"d{i}", "", offset_s=v, status="dropped") for i, v in enumerate(dropped)]
    (lengths, offsets) = histograms(records)
    assert lengths.title == "Length"
    assert sum(b.kept for b in offsets.bars) == len(kept) and sum(b.dropped for b in offsets.bars) == len(dropped)
    assert offsets.most == max(b.kept + b.dropped for b in offsets.bars)
    assert offsets.bars[0].low <= min(kept + dropped) and offsets.bars[-1].high >= max(kept + dropped) * (1 - 1e-12)
    assert 2 <= len(offsets.ticks) <= 7
    assert offsets.ticks[-1] == pytest.approx(offsets.bars[-1].high)
    assert offsets.median == np.median(kept)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 20))
def test_the_sheet_shows_everybody_before_anybody_twice(clips: list[int], count: int) -> None:
    records = [ClipRecord(f"{p}-{i}", "", identity=f"p{p}") for p, n in enumerate(clips) for i in range(n)]
    chosen = choose(records, count)
    assert len(chosen) == len({r.key for r in chosen}) == min(count, sum(clips))
    seen = [sum(r.identity == f"p{p}" for r in chosen) for p in range(len(clips))]
    for shown, there in zip(seen, clips, strict=True):
        assert shown >= min(there, max(seen) - 1)
    assert choose(records[::-1], count) == chosen


def test_the_most_doubtful_clip_is_seen_first() -> None:
    assert [r.key for r in choose(RECORDS, 9)] == ["a-1", "a-0", "b-0"]


def test_a_clips_picture_shows_its_moments_and_its_lips(folder: Path) -> None:
    sample = next(iter(Dataset(folder, "train")))
    image = picture(sample)
    assert image.shape == (200, 576, 3) and image.dtype == np.uint8
    # the made-up frames are of one grey each: moments at 1/5 .. 4/5, lips 2 frames apart
    moments = [image[10:130, 144 * i + 20 : 144 * i + 120].mean() for i in range(4)]
    expected = [6 * (t % 40) + 8 for t in np.linspace(0, 99, 6).astype(int)[1:5]]
    assert np.allclose(moments, expected, atol=4)
    lips = [image[150:170, 48 * i + 8 : 48 * i + 40].mean() for i in range(12)]
    assert np.allclose(np.diff(lips), 12, atol=4)


def test_a_very_short_clip_has_a_picture_too(write_dataset: Write) -> None:
    folder = write_dataset([ClipRecord("x", "x.mp4", identity="x", split="train", duration=0.2)])
    assert picture(next(iter(Dataset(folder)))).shape == (200, 576, 3)


class _Page(HTMLParser):
    """Elements with attributes that load something, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.loaded += [value for name, value in attributes if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_needs_nothing_but_itself(folder: Path) -> None:
    html = (folder / "report.html").read_text("utf-8")
    page = _Page()
    page.feed(html)
    assert len(page.loaded) == 3 and all(url.startswith("data:image/jpeg;base64,") for url in page.loaded)
    assert "url(" not in html and "@import" not in html and "<script" not in html and "http" not in html
    assert "3 of 6 clips kept" in page.text and "150 s for each minute" in page.text
    assert "bo <b>&" in page.text and "c<i>.mp4" in page.text
    assert re.search(r"offset \+0\.08 s, moved", " ".join(page.text.split()))
    assert "These people may be one and the same" in page.text and "0.10" in page.text
    assert sorted(p.name for p in folder.iterdir()) == ["clips.parquet", "report.html", "shards"]


def test_the_same_dataset_gives_the_same_report(folder: Path) -> None:
    first = (folder / "report.html").read_bytes()
    write_report(folder, read_table(folder / TABLE), seconds_taken=90.0)
    assert (folder / "report.html").read_bytes() == first


def test_a_dataset_without_any_clip_has_a_report(tmp_path: Path) -> None:
    text = write_report(tmp_path, RECORDS[3:]).read_text("utf-8")
    assert "0 of 3 clips kept" in text and "several faces" in text


@pytest.mark.parametrize("size", [700, 0, None])
def test_a_damaged_shard_is_an_error_and_no_report(folder: Path, tmp_path: Path, size: int | None) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "report.html").unlink()
    shard = copy / "shards" / "test-000000.tar"
    if size is None:
        shard.unlink()
    else:
        os.truncate(shard, size)
    with pytest.raises(DatasetError, match=r"clip b-0 in shards/test-000000\.tar is damaged"):
        write_report(copy, read_table(copy / TABLE))
    assert sorted(p.name for p in copy.iterdir()) == ["clips.parquet", "shards"]


def test_a_browser_lays_it_out(folder: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium to open the report")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path}", "--dump-dom", (folder / "report.html").as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    dom = done.stdout
    assert dom.count("<svg") == 6 and dom.count("<figure") == 3
    assert re.search(r'<table id="table1">.*?<td>Identities</td><td><b>2</b></td>', dom, re.DOTALL)
    filters = re.search(r'<table id="filters">(.*?)</table>', dom, re.DOTALL)[1]
    assert filters.count("<tr>") == 3 and "33.3 %" in filters
    assert "ERROR:CONSOLE" not in done.stderr
