"""Subtitles: all the words, at the right time, where one can read them."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from magictalk import Speech
from magictalk.dialogue.subtitles import LONGEST, Burner, Cue, cues_of, letters, split, srt
from magictalk.dialogue.turns import Turn
from magictalk.errors import DialogueError, OptionError

LONG = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity. It was the season of Light!"
)
CHINESE = "那是最美好的时代，那是最糟糕的时代；那是智慧的年头，那是愚昧的年头。" * 3


def turn(text: str | None, start: int, frames: int) -> Turn:
    silence = Speech.from_array(np.zeros(1600, np.float32), 16000)
    return Turn("Ann", "Bob", silence, start, frames, (), text, None)


@given(st.text(st.sampled_from("ab ,.é你好。\n"), min_size=1).filter(str.strip))
def test_no_word_is_lost(text):
    pieces = split(text, 20)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece == piece.strip() and piece for piece in pieces)


def test_short_lines_stay_whole():
    assert split("Hello, you. How are you?") == ["Hello, you. How are you?"]


@pytest.mark.parametrize("text", [LONG, CHINESE])
def test_long_lines_break_where_a_phrase_ends(text):
    pieces = split(text)
    assert len(pieces) >= 3 and all(letters(p) <= LONGEST for p in pieces)
    assert all(re.search("[,.!，；。]$", p) for p in pieces)
    assert min(letters(p) for p in pieces) > 0.3 * max(letters(p) for p in pieces)


def test_a_word_longer_than_a_subtitle_is_kept():
    assert split("a " + "x" * 200) == ["a", "x" * 200]


def test_pieces_share_the_time_by_their_letters():
    cues = cues_of([turn(LONG, 100, 1000), turn(None, 1200, 50), turn("Bye.", 1300, 25)])
    assert cues[0].start == 100 and cues[-2].end == 1100
    assert (cues[-1].start, cues[-1].end, cues[-1].text) == (1300, 1325, "Bye.")
    for before, after in pairwise(cues[:-1]):
        assert before.end == after.start
    total = sum(letters(c.text) for c in cues[:-1])
    for cue in cues[:-1]:
        assert (cue.end - cue.start) / 1000 == pytest.approx(letters(cue.text) / total, abs=0.002)


def test_srt_is_as_players_read_it():
    text = srt([Cue(0, 30, "Grüß dich!"), Cue(90001, 90026, "你好")])
    blocks = text.strip().split("\n\n")
    stamps = re.compile(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})")
    times = []
    for number, block in enumerate(blocks, 1):
        first, second, *rest = block.split("\n")
        assert first == str(number) and rest
        h, m, s, ms, h2, m2, s2, ms2 = map(int, stamps.fullmatch(second).groups())
        times.append((h * 3600 + m * 60 + s + ms / 1000, h2 * 3600 + m2 * 60 + s2 + ms2 / 1000))
    assert times == [(0, 1.2), (3600.04, 3601.04)]


def test_srt_is_read_by_ffmpeg(tmp_path):
    import av

    (tmp_path / "a.srt").write_text(srt([Cue(10, 35, "Grüß dich!"), Cue(50, 75, "你好")]), "utf-8")
    with av.open(str(tmp_path / "a.srt")) as container:
        packets = [p for p in container.demux() if p.size]
    assert [float(p.pts * p.time_base) for p in packets] == [0.4, 2.0]
    assert [bytes(p).decode() for p in packets] == ["Grüß dich!", "你好"]


def drawn(text: str, size: tuple[int, int], number: int = 5, level: int = 128) -> np.ndarray:
    frame = np.full((size[1], size[0], 3), level, np.uint8)
    Burner([Cue(5, 10, text)], size)(frame, number)
    return np.abs(frame.astype(int) - level).max(2)


def test_letters_are_at_the_bottom_in_the_middle_and_only_there():
    change = drawn("Hello, you", (400, 300))
    rows, columns = np.flatnonzero(change.max(1)), np.flatnonzero(change.max(0))
    assert rows.min() > 200 and 265 < rows.max() < 290
    assert abs(columns.min() + columns.max() - 400) <= 4 and 70 < np.ptp(columns) < 150


@pytest.mark.parametrize("number", [4, 10])
def test_nothing_is_drawn_before_and_after(number):
    assert not drawn("Hello", (400, 300), number).any()


@pytest.mark.parametrize("level", [0, 255])
def test_it_reads_on_black_and_on_white(level):
    assert drawn("Hello", (400, 300), level=level).max() > 200


@pytest.mark.parametrize("size", [(160, 160), (828, 512), (102, 128)])
def test_long_texts_are_wrapped_into_the_frame(size):
    change = drawn(split(LONG)[0], size)
    columns, rows = np.flatnonzero(change.max(0)), np.flatnonzero(change.max(1))
    assert columns.min() >= 0.02 * size[0] and columns.max() <= 0.98 * size[0] and rows.min() > 0


def test_umlauts_greek_and_cyrillic_are_there():
    for text in ("äöüßéñçøłőğ", "αβγ", "жщы"):
        assert drawn(text, (400, 300)).any()


def test_letters_the_font_lacks_are_named():
    with pytest.raises(DialogueError, match=r"the built-in font has no letter '你' .*--font"):
        Burner([Cue(0, 5, "Hello 你")], (400, 300))


def test_fonts_that_are_none(tmp_path):
    with pytest.raises(OptionError, match="no font file at"):
        Burner([], (400, 300), tmp_path / "none.ttf")
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    with pytest.raises(OptionError, match="is not a font"):
        Burner([], (400, 300), tmp_path / "bad.ttf")


def test_another_font_can_be_given():
    from pathlib import Path

    import matplotlib

    serif = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif-Bold.ttf"
    frame = np.zeros((300, 400, 3), np.uint8)
    Burner([Cue(0, 5, "Hello")], (400, 300), serif)(frame, 0)
    assert not np.array_equal(frame.max(2), drawn("Hello", (400, 300), level=0))
