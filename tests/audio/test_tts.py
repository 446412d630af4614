"""Text to speech: what is said, when, and that it stays the same."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.audio.tts import PAUSE, RATE, _blocks, stream, synthesize, variants, voices
from magictalk.errors import OptionError, SpeechError


def level(spoken, phoneme):
    a, b = round(phoneme.start * RATE), round(phoneme.end * RATE)
    return float(np.sqrt(np.mean(spoken.samples[a:b] ** 2)))


def test_phonemes_are_the_words_in_order_without_gaps():
    spoken = synthesize("Mama bought a big map.", "en")
    assert spoken.rate == RATE
    assert spoken.samples.dtype == np.float32
    assert np.abs(spoken.samples).max() <= 1
    sounds = [p.symbol.strip("ˈˌ") for p in spoken.phonemes if p.symbol != PAUSE]
    assert "".join(sounds).startswith("mamɐb")
    assert [s for s in sounds if s[0] in "mbp"] == ["m", "m", "b", "b", "m", "p"]
    ends = [p.end for p in spoken.phonemes]
    assert spoken.phonemes[0].start == 0
    assert ends[-1] == pytest.approx(len(spoken.samples) / RATE)
    assert [p.start for p in spoken.phonemes[1:]] == ends[:-1]


def test_times_agree_with_the_sound_itself():
    """Vowels are loud, pauses silent, and a voiceless stop is silent before its burst, whatever the voice."""
    for voice in ("en", "en+f3", "de", "fr+f2", "es", "it"):
        spoken = synthesize("Papa, opapa. Tata, otata.", voice)
        vowels = [level(spoken, p) for p in spoken.phonemes if p.symbol.strip("ˈˌ")[:1] in ("a", "ɑ", "o", "ɒ")]
        pauses = [level(spoken, p) for p in spoken.phonemes if p.symbol == PAUSE]
        assert max(pauses) < 0.1 * np.mean(vowels)
        inner = [
            p
            for before, p in zip(spoken.phonemes, spoken.phonemes[1:], strict=False)
            if p.symbol in ("p", "t") and before.symbol != PAUSE
        ]
        assert len(inner) >= 4
        for stop in inner:
            a = round(stop.start * RATE)
            assert np.abs(spoken.samples[a : a + round(0.02 * RATE)]).max() < 0.05 * np.abs(spoken.samples).max()
            assert 0.04 < stop.end - stop.start < 0.2


def test_the_same_words_are_the_same_bytes_whatever_was_said_before():
    first = synthesize("She sells sea shells.", "en+whisper")
    synthesize("Etwas anderes.", "de", rate_wpm=300, pitch=90)
    again = synthesize("She sells sea shells.", "en+whisper")
    assert np.array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes


def test_threads_do_not_disturb_each_other():
    texts = [f"number {i}" for i in range(12)]
    alone = [synthesize(t).samples for t in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda t: synthesize(t).samples, texts))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_rate_pitch_and_variant_change_the_voice():
    usual, slow = synthesize("one two three four"), synthesize("one two three four", rate_wpm=90)
    assert len(slow.samples) > 1.4 * len(usual.samples)

    def hertz(spoken):
        vowel = spoken.samples[round(0.05 * RATE) : round(0.15 * RATE)]
        likeness = np.correlate(vowel, vowel, "full")[len(vowel) - 1 :]
        return RATE / (RATE // 400 + np.argmax(likeness[RATE // 400 : RATE // 50]))

    assert hertz(synthesize("ah", pitch=80)) > 1.3 * hertz(synthesize("ah", pitch=20))
    assert not np.array_equal(synthesize("hello", "en+f3").samples, synthesize("hello", "en+m2").samples)


def test_voices_are_found_by_code_alias_and_case():
    assert {"en", "en-us", "de", "fr", "es", "cmn", "hi"} <= set(voices())
    assert {"f3", "m2", "whisper"} <= set(variants())
    assert np.array_equal(synthesize("你好", "zh").samples, synthesize("你好", "cmn").samples)
    assert np.array_equal(synthesize("hello", "en_US").samples, synthesize("hello", "en-us").samples)
    with pytest.raises(SpeechError, match=r"no voice named 'frr'; close to it: fr"):
        synthesize("hello", "frr")
    with pytest.raises(SpeechError, match=r"variant named 'f99'.*close to it: .*f"):
        synthesize("hello", "en+f99")
    with pytest.raises(SpeechError, match="no voice named ''"):
        synthesize("hello", "")


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\0"])
def test_empty_text_is_refused(text):
    with pytest.raises(SpeechError, match="text is empty"):
        stream(text)


def test_what_cannot_be_spoken_is_refused_at_once():
    with pytest.raises(SpeechError, match=r"nothing to say in '...'"):
        stream("...")
    with pytest.raises(OptionError, match=r"rate_wpm is 5; expected 80\.\.450"):
        stream("hello", rate_wpm=5)


def test_unicode_is_spoken():
    for text, voice in [("Grüße aus Köln", "de"), ("Привет", "ru"), ("مرحبا", "ar"), ("नमस्ते", "hi"), ("🙂", "en")]:
        assert any(p.symbol != PAUSE for p in synthesize(text, voice).phonemes)
    assert len(synthesize("a lone \ud800 surrogate").samples)


def test_long_text_streams_in_pieces_that_join_to_the_whole():
    text = "It was the best of times, it was the worst of times. " * 60
    pieces = list(stream(text))
    assert len(pieces) > 2
    assert max(len(p.samples) for p in pieces) < 100 * RATE
    whole = synthesize(text)
    assert len(whole.samples) == sum(len(p.samples) for p in pieces)
    assert whole.phonemes[-1].end == pytest.approx(len(whole.samples) / RATE)
    assert sum(p.symbol == "m" for p in whole.phonemes) == 2 * 60  # two "times" a sentence


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab .!?\n，。", max_size=6000))
def test_blocks_lose_nothing_but_empty_pieces(text):
    blocks = list(_blocks(text))
    assert "".join("".join(blocks).split()) == "".join(text.split())
    assert all(0 < len(b) <= 1000 for b in blocks)
