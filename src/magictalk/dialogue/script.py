"""The script of a dialogue: who takes part, and who says what in which mood; written in YAML by a person or a model.

characters:
  Mona Lisa: {portrait: mona.png, voice: en+f3}
  Leonardo: {portrait: leonardo.png, voice: en+m3, pitch: 35}
lines:
  - {who: Mona Lisa, text: You never finished me., emotion: angry 0.8}
  - {who: Leonardo, text: Perfection takes time., pause: 0.6}
  - {who: Mona Lisa, audio: sigh.wav, text: (sighs), emotion: sad}
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from magictalk.drive.idle import LARGEST_SEED
from magictalk.errors import DialogueError, MagicTalkError
from magictalk.style import Style

MOST_CHARACTERS = 8
LONGEST_PAUSE = 3600.0
"""Seconds."""
VOICES = "en+f3", "en+m3", "en+f5", "en+m7", "en+f1", "en+m1", "en+f4", "en+m5"
"""What characters who state no voice get, in their order: each another one."""

_MESSAGES = {"extra_forbidden": "no such key", "missing": "is missing", "too_short": "there are too few"}


def _existing(path: Path, info: ValidationInfo) -> Path:
    path = (info.context or {}).get("folder", Path()) / path
    if not os.path.isfile(path):  # unlike Path.is_file, also False for a name too long
        raise ValueError(f"no file at {path}")
    return path


def _relative(path: Path, info: FieldSerializationInfo) -> str:
    return os.path.relpath(path, (info.context or {}).get("folder", Path()))


def _emotion(text: str) -> str:
    try:
        Style.parse(text)
    except MagicTalkError as error:
        raise ValueError(str(error)) from error
    return text


File = Annotated[Path, AfterValidator(_existing), PlainSerializer(_relative)]
"""A file that exists; a path in a script starts from the script's folder."""
Words = Annotated[str, Field(min_length=1)]
Emotion = Annotated[str, AfterValidator(_emotion)]


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )


class Character(_Part):
    """Somebody who takes part.

    Attributes:
        portrait: a picture with a face.
        voice: a language code, with a variant if wished: ``en+f3``; see :mod:`magictalk.audio.tts`.
        rate_wpm: words a minute, 80..450.
        pitch: of the voice, 0..99.
        pitch_range: of the voice, 0 (monotone) to 99.
        emotion: of lines that state none: ``happy 0.5``.
        face: which face of the picture, from 1 from left to right; the largest by default.
        face_box: ``[x, y, width, height]`` around the face in pixels, when it is not found by itself.
        seed: of everything that is drawn by chance, 0 to 2**32 - 1; by default from the character's place in the
            script.
    """

    portrait: File
    voice: Words | None = None
    rate_wpm: Annotated[int, Field(ge=80, le=450)] | None = None
    pitch: Annotated[int, Field(ge=0, le=99)] | None = None
    pitch_range: Annotated[int, Field(ge=0, le=99)] | None = None
    emotion: Emotion | None = None
    face: Annotated[int, Field(ge=1)] | None = None
    face_box: tuple[float, float, float, float] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = None

    @model_validator(mode="after")
    def _has_one_face(self) -> Character:
        if self.face is not None and self.face_box is not None:
            raise ValueError("has both a face and a face_box; give one of them")
        return self


class Line(_Part):
    """Something said.

    Attributes:
        who: a character's name.
        text: what is said, and shown as subtitle.
        audio: a recording of it, instead of the bundled voice; without ``text`` it has no subtitle.
        emotion: a label and an intensity: ``angry 0.8``.
        pause: seconds of silence before it; the dialogue's usual gap by default.
        to: who it is said to; whoever spoke last by default.
    """

    who: Words
    text: Words | None = None
    audio: File | None = None
    emotion: Emotion | None = None
    pause: Annotated[float, Field(ge=0, le=LONGEST_PAUSE)] | None = None
    to: Words | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Line:
        if self.text is None and self.audio is None:
            raise ValueError("says nothing; give a text or an audio file")
        return self


class Cast(_Part):
    """The characters of a dialogue that is still to be written."""

    title: Words | None = None
    characters: Annotated[dict[Words, Character], Field(min_length=2, max_length=MOST_CHARACTERS)]

    @classmethod
    def parse(cls, data: Any, folder: Path = Path(), name: str = "the script") -> Any:
        """Check what a YAML or JSON file holds.

        Args:
            data: nested dicts and lists.
            folder: where relative paths start.
            name: of the script, for errors.

        Raises:
            DialogueError: naming the first place that is wrong.
        """
        if not isinstance(data, dict):
            raise DialogueError(f"{name} holds {_kind(data)}; expected the keys {', '.join(cls.model_fields)}")
        if cls is Cast and "lines" in data:
            raise DialogueError(f"{name} has lines already; expected characters alone, to write lines for")
        try:
            return cls.model_validate(data, context={"folder": folder})
        except ValidationError as error:
            raise DialogueError(f"{name}: {_first_of(error)}") from error

    @classmethod
    def open(cls, path: str | Path) -> Any:
        """Read a YAML file (JSON is YAML too).

        Raises:
            DialogueError: when it is missing, not YAML, or not a script; also for every file that it names.
        """
        path = Path(path)
        if not os.path.isfile(path):
            raise DialogueError(f"no script at {path}; expected a YAML file")
        try:
            data = yaml.load(path.read_text("utf-8-sig"), _StrictLoader)
        except OSError as error:
            raise DialogueError(f"cannot read {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise DialogueError(f"{path} is not UTF-8 text; expected a YAML file") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f", line {mark.line + 1}" if mark else ""
            raise DialogueError(f"{path} is not YAML: {error.problem or error.context}{place} of the file") from error
        except yaml.YAMLError as error:
            raise DialogueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        except (ValueError, OverflowError) as error:  # of what YAML's reader calculates, such as "\\UFFFFFFFF"
            raise DialogueError(f"{path} is not YAML: {error}") from error
        except RecursionError as error:
            raise DialogueError(f"{path} is nested too deeply; expected a script") from error
        return cls.parse(data, path.parent, str(path))

    def yaml(self, folder: Path) -> str:
        """The script as it is written to a file in ``folder``; what is left out stays out."""
        data = self.model_dump(mode="json", exclude_none=True, context={"folder": folder})
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


class Script(Cast):
    """A whole dialogue."""

    lines: Annotated[list[Line], Field(min_length=1)]

    @model_validator(mode="after")
    def _know_each_other(self) -> Script:
        for number, line in enumerate(self.lines, 1):
            for key, name in (("who", line.who), ("to", line.to)):
                if name is not None and name not in self.characters:
                    raise ValueError(f"line {number}, {key}: no character {name!r}; expected {_or(self.characters)}")
            if line.who == line.to:
                raise ValueError(f"line {number}, to: {line.who} speaks to {line.to}; expected another character")
        return self

    def voice(self, name: str) -> str:
        """The voice of a character."""
        return self.characters[name].voice or VOICES[list(self.characters).index(name)]


class _StrictLoader(yaml.SafeLoader):
    """YAML in which words stay as they are written, and a key that is there twice is an error rather than lost.

    YAML itself makes numbers, dates and yes or no of words that look so: 12:30 becomes 750. What is a number follows
    from its key instead.
    """

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.endswith((":null", ":str", ":seq", ":map"))
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        pairs = (
            node.value if isinstance(node, yaml.MappingNode) else ()
        )  # of a list called !!map YAML says what is wrong
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _first_of(error: ValidationError) -> str:
    """The first thing that is wrong, with its place, in one line."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "[key]"]
    if place[:1] == ["lines"] and len(place) > 1:
        place[:2] = [f"line {int(place[1]) + 1}"]
    what = " ".join(_MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, ")).split())
    if first["type"] == "too_short" and place == ["characters"]:
        what = "a dialogue takes two characters or more"
    elif first["type"] in ("too_short", "string_too_short"):
        what = "is empty"
    elif first["type"] == "too_long":
        what = f"there are {len(first['input'])}; expected at most {MOST_CHARACTERS}"
    elif first["type"] not in ("value_error", "extra_forbidden", "missing"):
        what = f"{what[0].lower()}{what[1:]}, not {_shown(first['input'])}"
    return f"{', '.join(place)}: {what}" if place else what


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else _kind(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _kind(value: Any) -> str:
    kinds = {dict: "keys and values", list: "a list", str: "text", type(None): "nothing"}
    return kinds.get(type(value), f"{value!r}")


def _or(names: Any) -> str:
    return " or ".join(names)
