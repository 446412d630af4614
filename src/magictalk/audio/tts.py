"""Text to speech with exact phoneme times: espeak-ng, called through ctypes.

The library and its voices come in the wheel ``espeakng-loader``; nothing is downloaded. espeak-ng keeps its state
(noise, flutter, the voice last used) in static variables that drift from call to call, so each block of text is
spoken by a freshly loaded library, about a millisecond of work: the same words are then the same bytes.
"""

from __future__ import annotations

import ctypes
import difflib
import functools
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MissingDependencyError, OptionError, SpeechError

RATE = 22050
"""Samples a second that espeak-ng makes."""
PAUSE = "_"
"""The symbol of a pause."""

_BLOCK = 1000
"""Characters spoken at once (a minute or so); longer texts are cut at the end of a sentence."""
_SENTENCE_END = re.compile(r"[.!?…؟।]+[\"'»”’)\]]*\s+|[。！？]+[」』”]*|\n+")
_CLOSURE = 0.15
"""Seconds of silence before a sound that may belong to it."""
_VOICELESS_STOPS = tuple("ptkqcʈʔ")
_ECHO = 0.04
"""Level of the echo that some variants lay over closures, relative to the loudest sample."""

# espeak-ng/speak_lib.h
_SYNCHRONOUS = 2
_PHONEME_EVENTS_IN_IPA = 1 | 2
_CHARS_UTF8 = 1
_EVENT_PHONEME = 7
_PARAMETERS = {"rate_wpm": (1, 80, 450), "pitch": (3, 0, 99), "pitch_range": (4, 0, 99)}

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Phoneme:
    """One sound.

    Attributes:
        symbol: IPA, with its stress mark first if it has one (``ˈ``, ``ˌ``); ``"_"`` for a pause.
        start: when it begins, in seconds. The silent closure of a stop (p, t, k) belongs to the stop.
        end: when it ends, in seconds.
    """

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class Spoken:
    """Text that has been spoken.

    Attributes:
        samples: float32 ``[n]`` in [-1, 1].
        rate: samples a second.
        phonemes: every sound and pause in order, without gaps.
    """

    samples: NDArray[np.float32]
    rate: int
    phonemes: tuple[Phoneme, ...]


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@contextmanager
def _library() -> Iterator[ctypes.CDLL]:
    """A fresh espeak-ng, for one thread at a time."""
    import _ctypes  # the only door to unloading a library

    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingDependencyError("espeak-ng is not installed; pip install espeakng-loader") from error
    with _LOCK:
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        try:
            data = espeakng_loader.get_data_path().encode()
            if library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS_IN_IPA) != RATE:
                raise MissingDependencyError("espeak-ng does not start; pip install --force-reinstall espeakng-loader")
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # it takes the time of day otherwise: noisy voices vary
            yield library
            library.espeak_Terminate()
        finally:
            unload = getattr(_ctypes, "dlclose", None) or _ctypes.FreeLibrary  # type: ignore[attr-defined]
            unload(library._handle)


def _list(library: ctypes.CDLL, query: _Voice | None) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """``(identifier, [(priority, language code)])`` of every voice that answers the query."""
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    found = library.espeak_ListVoices(ctypes.byref(query) if query else None)
    for i in itertools.count():
        if not found[i]:
            return
        voice = found[i][0]
        codes: list[tuple[int, str]] = []
        at = voice.languages
        while priority := ctypes.string_at(at, 1)[0]:
            code = ctypes.string_at(at + 1)
            codes.append((priority, code.decode("utf-8", "replace").lower()))
            at += len(code) + 2
        yield voice.identifier.decode(), codes


@functools.cache
def _catalogue() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """``(voices, other codes they answer to, variants)``: lower-case name to what espeak-ng calls it."""
    with _library() as library:
        listed = list(_list(library, None))
        spec = ctypes.create_string_buffer(b"variant")
        changed = list(_list(library, _Voice(languages=ctypes.addressof(spec))))
    own = {identifier.split("/")[-1].lower(): identifier for identifier, _ in listed}
    ranked = sorted((priority, code, identifier) for identifier, codes in listed for priority, code in codes)
    also: dict[str, str] = {}
    for _, code, identifier in ranked:
        also.setdefault(code, identifier)
    variants = {i.split("/")[-1].lower(): i.split("/")[-1] for i, _ in changed if i.startswith("!v/")}
    return own, also, variants


def voices() -> list[str]:
    """Names of all voices, such as ``"en"``, ``"en-us"``, ``"de"``, ``"cmn"``."""
    return sorted(_catalogue()[0])


def variants() -> list[str]:
    """Names that change a voice's character, such as ``"f3"`` or ``"m2"``: say ``"en+f3"``."""
    return sorted(_catalogue()[2])


def _resolve(voice: str) -> str:
    """espeak-ng's own name of a voice and its variant; it would fall back silently on another otherwise."""
    own, also, changes = _catalogue()
    base, _, variant = voice.strip().lower().replace("_", "-").partition("+")
    if base not in own and base not in also:
        close = difflib.get_close_matches(base, sorted({*own, *also}), n=5, cutoff=0.4)
        hint = f"close to it: {', '.join(close)}" if close else "expected a language code such as en, de, fr, cmn"
        raise SpeechError(f"no voice named {voice!r}; {hint}")
    if variant and variant not in changes:
        close = difflib.get_close_matches(variant, sorted(changes), n=5, cutoff=0.4) or ["f1..f5", "m1..m8"]
        raise SpeechError(f"no voice variant named {variant!r} in {voice!r}; close to it: {', '.join(close)}")
    return (own.get(base) or also[base]) + (f"+{changes[variant]}" if variant else "")


def _blocks(text: str) -> Iterator[str]:
    """Cut a text into pieces of at most ``_BLOCK`` characters: at a sentence's end, else at a space."""
    start = 0
    while start < len(text):
        end = start + _BLOCK
        if end < len(text):
            ends = [m.end() for m in _SENTENCE_END.finditer(text, start, end)]
            space = max(text.rfind(" ", start, end), text.rfind("，", start, end)) + 1
            end = ends[-1] if ends else space if space > start else end
        if text[start:end].strip():
            yield text[start:end]
        start = end


def _speak(text: str, voice: str, parameters: dict[str, int]) -> Spoken:
    """Speak one block with an espeak-ng voice name."""
    parts: list[NDArray[np.int16]] = []
    marks: list[tuple[int, str]] = []

    def receive(wave, count, events):  # type: ignore[no-untyped-def]
        if wave and count:
            parts.append(np.ctypeslib.as_array(wave, (count,)).copy())
        i = 0
        while events[i].type:
            if events[i].type == _EVENT_PHONEME:
                raw = ctypes.string_at(ctypes.addressof(events[i]) + _Event.id.offset, 8)
                marks.append((events[i].sample, raw.split(b"\0")[0].decode("utf-8", "ignore")))
            i += 1
        return 0

    callback = _Callback(receive)
    with _library() as library:
        library.espeak_SetSynthCallback(callback)
        library.espeak_SetVoiceByName(voice.encode())
        for name, value in parameters.items():
            library.espeak_SetParameter(_PARAMETERS[name][0], value, 0)
        data = text.encode("utf-8", "replace")
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    return Spoken((samples / np.float32(32768)).astype(np.float32), RATE, _time(marks, samples))


def _time(marks: list[tuple[int, str]], samples: NDArray[np.int16]) -> tuple[Phoneme, ...]:
    """Turn marks ``(sample, symbol)`` into phonemes without gaps.

    espeak-ng marks a stop at its burst; the silence before it is the closure, and moves from the sound before to the
    stop. Marks such as ``(en)`` tell of a change of language and are no sounds.
    """
    starts: list[tuple[int, str]] = []
    echo = _ECHO * np.abs(samples, dtype=np.float32).max(initial=0)
    for at, symbol in marks:
        if symbol.startswith("("):
            continue
        if symbol and starts and starts[-1][1] != PAUSE:
            floor = max(starts[-1][0] + 1, at - int(_CLOSURE * RATE))
            quiet = echo if symbol.strip("ˈˌ").startswith(_VOICELESS_STOPS) else 0
            loud = np.flatnonzero(np.abs(samples[floor:at].astype(np.float32)) > quiet)
            at = floor + int(loud[-1]) + 1 if len(loud) else at
        if not (starts and starts[-1][1] == PAUSE and not symbol):
            starts.append((at, symbol or PAUSE))
    ends = [at for at, _ in starts[1:]] + [len(samples)]
    return tuple(Phoneme(s, a / RATE, b / RATE) for (a, s), b in zip(starts, ends, strict=True) if b > a)


def stream(
    text: str,
    voice: str = "en",
    *,
    rate_wpm: int | None = None,
    pitch: int | None = None,
    pitch_range: int | None = None,
) -> Iterator[Spoken]:
    """Speak a text of any length, about a minute of speech at a time; phoneme times count from each piece's start.

    Args:
        text: what to say.
        voice: a language code of :func:`voices`, with ``+`` and one of :func:`variants` if wished: ``"en+f3"``.
        rate_wpm: words a minute, 80..450; None for the voice's own (175).
        pitch: 0..99; None for the voice's own (50).
        pitch_range: 0 (monotone) to 99; None for the voice's own (50).

    Raises:
        SpeechError: no such voice, or nothing to say in the text; at once, not while iterating.
        OptionError: a number is out of its range.
    """
    wished = {"rate_wpm": rate_wpm, "pitch": pitch, "pitch_range": pitch_range}
    parameters = {name: value for name, value in wished.items() if value is not None}
    for name, value in parameters.items():
        _, low, high = _PARAMETERS[name]
        if not low <= value <= high:
            raise OptionError(f"{name} is {value}; expected {low}..{high}")
    name = _resolve(voice)
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", text)
    if not clean.strip():
        raise SpeechError("the text is empty; expected something to say")
    pieces = (_speak(block, name, parameters) for block in _blocks(clean))
    audible = (piece for piece in pieces if any(p.symbol != PAUSE for p in piece.phonemes))
    first = next(audible, None)
    if first is None:
        raise SpeechError(f"nothing to say in {text.strip()[:40]!r} with voice {voice!r}; expected words")
    return _chain(first, audible)


def _chain(first: Spoken, rest: Iterator[Spoken]) -> Iterator[Spoken]:
    yield first
    yield from rest


def synthesize(
    text: str,
    voice: str = "en",
    rate_wpm: int | None = None,
    pitch: int | None = None,
    pitch_range: int | None = None,
) -> Spoken:
    """Speak a text in one piece; arguments and errors as for :func:`stream`."""
    parts: list[NDArray[np.float32]] = []
    phonemes: list[Phoneme] = []
    offset = 0.0
    for piece in stream(text, voice, rate_wpm=rate_wpm, pitch=pitch, pitch_range=pitch_range):
        phonemes += [Phoneme(p.symbol, offset + p.start, offset + p.end) for p in piece.phonemes]
        parts.append(piece.samples)
        offset += len(piece.samples) / RATE
    return Spoken(np.concatenate(parts), RATE, tuple(phonemes))
