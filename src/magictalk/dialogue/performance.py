"""The dialogue end to end: a script becomes one video.

magictalk.dialogue.performance.perform("quarrel.yaml").save("quarrel.mp4")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from magictalk.animation import MadeVideo, animate
from magictalk.dialogue.listening import Listening, seats
from magictalk.dialogue.script import Script
from magictalk.dialogue.stage import SHORTEST_SHOT, Layout, Pose, Shots, SideBySide, Stage, cuts_of, frame_portraits
from magictalk.dialogue.subtitles import Burner, cues_of
from magictalk.dialogue.turns import GAP, Turn, length, track, turns_of
from magictalk.drive.idle import LARGEST_SEED
from magictalk.errors import DialogueError, OptionError, PortraitError
from magictalk.motion import FPS, Motion
from magictalk.portrait import Portrait
from magictalk.style import Style

if TYPE_CHECKING:
    from magictalk.animation import Animation
    from magictalk.drive.speakers import Drive
    from magictalk.speech import Speech

HEIGHT = 512
"""Pixels of a picture's height unless told otherwise."""

_MOOD_AHEAD = 0.4
"""Seconds by which a face changes before its line."""
_MOOD_KEPT = 0.3
"""How much of a line's mood stays on the face until the next."""


class Dialogue(MadeVideo):
    """A dialogue that is made while it is read. Make one with :func:`perform`.

    Attributes:
        turns: who speaks when.
        cues: the subtitles.
        speech: everything that is heard.
        frame_size: ``(width, height)`` of the video in pixels, both even.
        frame_count: frames of the whole.
        resume_hint: after :meth:`save` ended in an error: how to go on from what is kept; None when nothing is.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        stage: Stage,
        parts: Sequence[Callable[[], Iterator[Motion]]],
        *,
        burn: bool,
        font: Path | None,
        label: bool,
        fingerprint: dict[str, str],
    ) -> None:
        super().__init__(track(turns), stage.frame_size, length(turns), lambda: fingerprint)
        self.speech: Speech
        self.frame_count: int
        self.turns, self.cues = turns, cues_of(turns)
        self._stage, self._parts, self._label = stage, parts, label
        self._burn = Burner(self.cues, self.frame_size, font) if burn else None

    def motions(self) -> list[Iterator[Motion]]:
        """The motion of each character, in the script's order; in chunks, from the beginning at each call."""
        return [part() for part in self._parts]

    def frames(self, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """Frames from number ``start`` on, uint8 RGB ``[H, W, 3]``, made one at a time."""
        together = zip(*(_poses(motion) for motion in self.motions()), strict=True)
        for number, poses in islice(enumerate(together), start, None):
            frame = self._stage.draw(poses, number)
            if self._label:
                from magictalk.video import label

                label(frame)
            if self._burn:
                self._burn(frame, number)
            yield frame


def perform(
    script: str | Path | Script,
    *,
    layout: Layout = "side-by-side",
    gap: float = GAP,
    shortest_shot: float = SHORTEST_SHOT,
    height: int = HEIGHT,
    burn: bool = False,
    font: str | Path | None = None,
    drive: Drive = "emodiff",
    seed: int = 0,
    label: bool = False,
) -> Dialogue:
    """Make the characters of a script talk with each other. All is checked here; frames are drawn when read or saved.

    Args:
        script: a YAML file, or a :class:`Script`.
        layout: ``"side-by-side"``, or ``"shots"`` that cut to who speaks.
        gap: seconds between lines that state no pause.
        shortest_shot: seconds that a shot lasts at least.
        height: of the video in pixels, even.
        burn: draw the subtitles into the frames.
        font: a TrueType or OpenType file for them.
        drive: what moves the characters, as for :func:`magictalk.animate`; ``"audio2bs"`` takes no emotions.
        seed: of everything drawn by chance, 0 to 2**32 - 1; each character has its own from it.
        label: draw a visible "AI-generated" mark.

    Raises:
        DialogueError: when the script, or a file that it names, cannot be used.
        OptionError: when a value is out of its range.
    """
    if layout not in ("side-by-side", "shots"):
        raise OptionError(f"layout is {layout!r}; expected side-by-side or shots")
    if not 0 <= seed <= LARGEST_SEED:
        raise OptionError(f"seed is {seed}; expected 0 to {LARGEST_SEED}")
    script = script if isinstance(script, Script) else Script.open(script)
    names = list(script.characters)
    turns = turns_of(script, gap)
    if drive == "audio2bs" and any(turn.emotion for turn in turns):
        raise OptionError("the script has emotions, and drive audio2bs has none; choose emodiff, or leave them out")
    cuts = cuts_of(turns, names, shortest_shot)
    portraits = frame_portraits(_open(script), layout, height)
    place = seats(names)
    parts = []
    for number, (name, portrait) in enumerate(zip(names, portraits, strict=True)):
        own = script.characters[name].seed
        own = (seed * 1000 + number) % (LARGEST_SEED + 1) if own is None else own
        listening = Listening(turns, name, place, float(portrait.pose.rotation[1]), own)
        style = mood(turns, name) if any(turn.emotion for turn in turns if turn.who == name) else None
        speaking = animate(portrait, track(turns, name), drive=drive, style=style, seed=own)
        parts.append(partial(_part, speaking, listening))
    return Dialogue(
        turns,
        SideBySide(portraits) if layout == "side-by-side" else Shots(portraits, cuts),
        parts,
        burn=burn,
        font=None if font is None else Path(font),
        label=label,
        fingerprint={
            "script": _digest(script, portraits),
            "settings": f"{layout}, gap {gap:g}, shots {shortest_shot:g}, height {height}, {drive}, seed {seed}, "
            f"label {label}, burn {burn}, font {font}",
        },
    )


def mood(turns: Sequence[Turn], who: str) -> Style:
    """The expression of one character over time: each line's own, and a little of it until the next line."""
    times, faces = [0.0], [np.zeros(52, np.float32)]
    for turn in (turn for turn in turns if turn.who == who):
        face = Style.parse(turn.emotion or "neutral").expression([0.0])[0]
        begin = turn.start / FPS - _MOOD_AHEAD
        if begin <= times[-1]:  # the next line comes at once: nothing in between
            del times[-1], faces[-1]
        times += [begin, turn.end / FPS]
        faces += [face, _MOOD_KEPT * face]
    return Style(np.array(times), np.stack(faces))


def _part(speaking: Animation, listening: Listening) -> Iterator[Motion]:
    """One character's motion throughout: its drive on its own voice alone, and listening over it."""
    return listening(speaking.motions())


def _poses(motions: Iterator[Motion]) -> Iterator[Pose]:
    for motion in motions:
        yield from zip(motion.coefficients, motion.head, strict=True)


def _open(script: Script) -> list[Portrait]:
    from magictalk.face.landmarks import FaceDetector

    detector, found = FaceDetector(), []
    for name, character in script.characters.items():
        try:
            found.append(Portrait.open(character.portrait, character.face, character.face_box, detector))
        except PortraitError as error:
            raise DialogueError(f"{name}: {error}") from error
    return found


def _digest(script: Script, portraits: Sequence[Portrait]) -> str:
    """What the frames depend on besides settings: the script with its recordings' dates, and the pictures."""
    total = hashlib.blake2b(script.yaml(Path()).encode(), digest_size=8)
    for line in script.lines:
        if line.audio is not None:
            total.update(str(line.audio.stat().st_mtime_ns).encode())
    for portrait in portraits:
        total.update(portrait.image.data)
    return total.hexdigest()
