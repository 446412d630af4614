"""Subtitles: lines cut into pieces one can read, as an .srt file or drawn into the frames."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from magictalk.dialogue.turns import Turn
from magictalk.errors import DialogueError, OptionError
from magictalk.motion import FPS

LONGEST = 84
"""Letters of one subtitle, as broadcasters have it: two rows of 42; a Chinese, Japanese or Korean one counts twice."""

_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"\s*(?:[{_WIDE}][。，、；：！？…」』）]*|[^\s{_WIDE}]+)")
"""A word with the space before it; where there are no spaces, a character with the stops that must not begin a row."""
_REST = re.compile(r"[.,;:!?…。，；：！？、)»”]$")
_LETTER = 1 / 17
"""Height of the letters, of the frame's."""
_LEAST_LETTER = 11
_MARGIN = 0.085
"""Space below, of the frame's height: a mark in the corner stays free."""


@dataclass(frozen=True)
class Cue:
    """One subtitle, from frame ``start`` to before frame ``end``."""

    start: int
    end: int
    text: str


def cues_of(turns: Sequence[Turn]) -> list[Cue]:
    """Subtitles of all turns that have words; long ones in pieces that share the time by their letters."""
    cues: list[Cue] = []
    for turn in turns:
        pieces = split(turn.text) if turn.text else []
        shares = np.cumsum([0, *(letters(piece) for piece in pieces)])
        ends = [turn.start + round(turn.frames * share / max(1, shares[-1])) for share in shares]
        cues += [Cue(a, b, piece) for a, b, piece in zip(ends, ends[1:], pieces, strict=False) if b > a]
    return cues


def letters(text: str) -> int:
    """Width of a text in letters; wide ones count twice, marks over a letter nothing."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def split(text: str, longest: int = LONGEST) -> list[str]:
    """A text in pieces of at most ``longest`` letters and about one length, rather after a comma or full stop."""
    words = _WORD.findall(" ".join(text.split()))
    goal = letters(text) / -(-letters(text) // longest)
    pieces = [""]
    for word in words:
        full = letters(pieces[-1] + word) > longest
        rest = letters(pieces[-1]) >= 0.6 * goal and _REST.search(pieces[-1])
        enough = letters(pieces[-1]) >= goal
        if pieces[-1] and (full or (letters(text) > longest and (rest or enough))):
            pieces.append("")
            word = word.lstrip()
        pieces[-1] += word
    return pieces


def srt(cues: Sequence[Cue]) -> str:
    """The cues as the text of a SubRip file."""
    return "\n".join(
        f"{number}\n{_stamp(cue.start)} --> {_stamp(cue.end)}\n{cue.text}\n" for number, cue in enumerate(cues, 1)
    )


class Burner:
    """Draws subtitles into frames: white letters with a dark outline, at the bottom.

    Args:
        cues: in order.
        size: of the frames, ``(width, height)``.
        font: a TrueType or OpenType file; DejaVu Sans by default.

    Raises:
        OptionError: when the font cannot be read.
        DialogueError: when the font lacks a letter that is needed.
    """

    def __init__(self, cues: Sequence[Cue], size: tuple[int, int], font: Path | None = None) -> None:
        self._cues, self._size = cues, size
        self._starts = [cue.start for cue in cues]
        self._font = _font(font, max(_LEAST_LETTER, round(size[1] * _LETTER)))
        self._check_letters(font)
        self._drawn: tuple[Cue | None, NDArray[np.float32], tuple[slice, slice]] | None = None

    def __call__(self, frame: NDArray[np.uint8], number: int) -> None:
        """Draw what belongs into frame ``number``, uint8 RGB ``[H, W, 3]``, in place."""
        cue = self._cue_at(number)
        if cue is None:
            return
        if self._drawn is None or self._drawn[0] is not cue:
            self._drawn = cue, *self._plate(cue.text)
        _, plate, place = self._drawn
        ink, cover = plate[..., :1], plate[..., 1:]
        frame[place] = (frame[place] * (1 - cover) + ink * cover + 0.5).astype(np.uint8)

    def _cue_at(self, number: int) -> Cue | None:
        index = int(np.searchsorted(self._starts, number, "right")) - 1
        return self._cues[index] if index >= 0 and number < self._cues[index].end else None

    def _plate(self, text: str) -> tuple[NDArray[np.float32], tuple[slice, slice]]:
        """Ink (0..255) and cover (0..1) ``[h, w, 2]`` of a text, and its place in the frame."""
        width, height = self._size
        edge = max(1, round(self._font.size / 12))
        rows = "\n".join(self._wrapped(text, round(0.92 * width) - 2 * edge))
        canvas = Image.new("LA", (width, height), (0, 0))
        draw = ImageDraw.Draw(canvas)
        bottom = round(height * (1 - _MARGIN))
        draw.text(
            (width / 2, bottom),
            rows,
            fill=(255, 255),
            font=self._font,
            anchor="md",
            spacing=self._font.size / 5,
            align="center",
            stroke_width=edge,
            stroke_fill=(0, 230),
        )
        left, top, right, low = canvas.getchannel("A").getbbox() or (0, 0, 1, 1)
        plate = np.asarray(canvas.crop((left, top, right, low)), np.float32) * [1.0, 1 / 255]
        return plate.astype(np.float32), (slice(top, low), slice(left, right))

    def _wrapped(self, text: str, width: int) -> list[str]:
        """Rows no wider than the frame, as few as possible and of about one length."""
        words = _WORD.findall(text)
        for count in range(1, len(words) + 1):
            rows = split(text, max(2, -(-letters(text) // count) + (6 if count > 1 else 0)))
            if all(self._font.getlength(row) <= width for row in rows):
                return rows
        return split(text, 1)

    def _check_letters(self, path: Path | None) -> None:
        unknown = bytes(self._font.getmask("\uffff"))
        for letter in sorted({c for cue in self._cues for c in cue.text if not c.isspace()}):
            if bytes(self._font.getmask(letter)) == unknown:
                raise DialogueError(
                    f"{path.name if path else 'the built-in font'} has no letter {letter!r} "
                    f"({unicodedata.name(letter, 'unnamed').lower()}), which a subtitle needs; "
                    "give a font file that has it with --font, or write subtitles as srt only"
                )


def _font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    if path is None:
        import matplotlib

        return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
    if not os.path.isfile(path):  # unlike Path.is_file, also False for a name too long
        raise OptionError(f"no font file at {path}; expected a .ttf, .otf or .ttc file")
    try:
        return ImageFont.truetype(str(path), size)
    except OSError as error:
        raise OptionError(f"{path} is not a font; expected a .ttf, .otf or .ttc file") from error


def _stamp(frame: int) -> str:
    """``HH:MM:SS,mmm`` of a frame."""
    total = round(frame * 1000 / FPS)
    seconds, milliseconds = divmod(total, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{milliseconds:03d}"
