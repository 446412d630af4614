"""One folder of numbered PNG pictures, the sound in a WAV beside them."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import VideoError
from magictalk.video.mark import metadata
from magictalk.video.movie import encode_sound
from magictalk.video.sound import Sound

_NUMBER = re.compile(r"%0?(\d*)d")


class Sequence:
    """Pictures in the making: every one is whole as soon as it is there.

    Args:
        target: a folder, or a pattern such as ``shot_%05d.png``; pictures count from 0.
        work: the folder to write to until all is done.
        resume: count the pictures that are there.
    """

    unit = 1

    def __init__(self, target: Path, work: Path, resume: bool) -> None:
        self._pattern = target if target.suffix.lower() == ".png" else target / "%05d.png"
        number = _NUMBER.search(self._pattern.name)
        if number is None or _NUMBER.search(self._pattern.name, number.end()):
            raise VideoError(f"{target} has no place for one number; expected a name such as shot_%05d.png")
        self._before, self._after = self._pattern.name[: number.start()], self._pattern.name[number.end() :]
        self._digits = int(number[1] or 1)
        self._whole_folder = self._pattern.parent if self._pattern.parent == target else None
        if self._whole_folder:
            self._sound = target.with_name(target.name + ".wav")
        else:
            stem = (self._before.rstrip("_-. ") or self._pattern.parent.resolve().name) + self._after[: -len(".png")]
            self._sound = target.with_name(stem + ".wav")
        self._work = work
        self.frames = 0
        while resume and (work / self._name(self.frames)).is_file():
            self.frames += 1

    def _name(self, index: int) -> str:
        return f"{self._before}{index:0{self._digits}d}{self._after}"

    def existing(self) -> list[Path]:
        """What is already there under the names this would write."""
        found = [self._sound] if self._sound.exists() else []
        folder = self._pattern.parent
        if folder.is_dir():
            name = re.compile(re.escape(self._before) + r"\d+" + re.escape(self._after))
            found += sorted(p for p in folder.iterdir() if name.fullmatch(p.name))
        return found

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Write one uint8 RGB frame ``[H, W, 3]``."""
        from PIL import Image, PngImagePlugin

        note = PngImagePlugin.PngInfo()
        for key, value in metadata().items():
            note.add_text(key.capitalize(), value)
        part = self._work / "open.part"
        Image.fromarray(frame).save(part, "png", compress_level=1, pnginfo=note)
        os.replace(part, self._work / self._name(self.frames))
        self.frames += 1

    def finish(self, sound: Sound | None, fps: Fraction) -> None:
        """Move the pictures to their place and write the sound beside them."""
        wav = self._work / "sound.part"
        if sound is not None:
            _write_wav(sound, wav, (self.frames + 0.5) / float(fps))
        for stale in self.existing():
            stale.unlink()
        self._pattern.parent.mkdir(exist_ok=True)
        for i in range(self.frames):
            os.replace(self._work / self._name(i), self._pattern.parent / self._name(i))
        if sound is not None:
            os.replace(wav, self._sound)

    def abandon(self) -> None:
        """Nothing is open between two pictures."""


def _write_wav(sound: Sound, path: Path, limit: float) -> None:
    import av

    with av.open(f"file:{path}", "w", format="wav", options={"rf64": "auto"}) as container:
        container.metadata.update(metadata())
        stream = container.add_stream("pcm_s24le", rate=sound.rate, layout=sound.layout)
        for _, packet in encode_sound(sound, stream, limit):
            container.mux(packet)
