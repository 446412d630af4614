"""Scripts: what is read back is what was written, and what is wrong is said in one line with its place."""

import re

import pytest
import yaml

from magictalk.dialogue.script import VOICES, Cast, Script
from magictalk.errors import DialogueError


def test_the_example_of_the_module_is_a_script(folder):
    from magictalk.dialogue import script as module

    example = yaml.safe_load(module.__doc__.split("\n\n", 1)[1])
    for name in ("mona.png", "leonardo.png"):
        example["characters"]["Mona Lisa" if name == "mona.png" else "Leonardo"]["portrait"] = "ann.png"
    example["lines"][2]["audio"] = "tone.wav"
    read = Script.parse(example, folder)
    assert [line.who for line in read.lines] == ["Mona Lisa", "Leonardo", "Mona Lisa"]
    assert read.lines[0].emotion == "angry 0.8" and read.lines[1].pause == 0.6


def test_paths_start_at_the_script(write, content, tmp_path, monkeypatch):
    path = write(content)
    monkeypatch.chdir("/")
    assert Script.open(path).characters["Ann"].portrait == tmp_path / "ann.png"


def test_a_script_written_elsewhere_reads_the_same(script, tmp_path):
    (tmp_path / "deep").mkdir()
    again = tmp_path / "deep" / "again.yaml"
    again.write_text(script.yaml(again.parent), "utf-8")
    read = Script.open(again)
    assert read.lines[0] == script.lines[0]
    assert read.characters["Bob"].portrait.samefile(script.characters["Bob"].portrait)
    assert read.lines[2].audio.samefile(script.lines[2].audio)
    assert not yaml.safe_load(again.read_text())["characters"]["Ann"]["portrait"].startswith("/")


def test_who_states_no_voice_gets_one_of_their_own(script):
    assert (script.voice("Ann"), script.voice("Bob")) == ("en+f3", VOICES[1])


def test_numbers_may_be_text(content, folder):
    content["lines"][0]["text"] = 42
    assert Script.parse(content, folder).lines[0].text == "42"


@pytest.mark.parametrize("text", ["12:30", "0777", "yes", "2024-02-03", "2024-02-30", "1_000", "9" * 5000])
def test_words_stay_as_they_are_written(write, content, text):
    path = write(content)
    path.write_text(path.read_text().replace("I was here, as always.", text))
    read = Script.open(path)
    assert read.lines[1].text == text and read.lines[1].pause == 0.5 and read.characters["Bob"].pitch == 30


def test_numbers_are_read_where_they_belong(write):
    ann = "{portrait: ann.png, rate_wpm: 150, pitch: 30, face_box: [1, 2.5, 300, 4e2], seed: 4294967295}"
    lines = "[{who: Ann, text: Hello, pause: 3600, emotion: }]"
    read = Script.open(write(f"characters: {{Ann: {ann}, Bob: {{portrait: bob.png}}}}\nlines: {lines}"))
    assert read.characters["Ann"].face_box == (1, 2.5, 300, 400) and read.characters["Ann"].seed == 2**32 - 1
    assert read.lines[0].pause == 3600 and read.lines[0].emotion is None


def change(*places, to):
    def apply(content):
        for place in places[:-1]:
            content = content[place]
        if to is None:
            del content[places[-1]]
        else:
            content[places[-1]] = to

    return apply


WRONG = {
    "unknown key": (change("lines", 1, "mood", to="sad"), "line 2, mood: no such key"),
    "key of a character": (change("characters", "Ann", "voices", to="en"), "characters, Ann, voices: no such key"),
    "no lines": (change("lines", to=[]), "lines: is empty"),
    "lines missing": (change("lines", to=None), "lines: is missing"),
    "one character": (change("characters", "Bob", to=None), "two characters or more"),
    "too many": (
        change("characters", to={str(i): {"portrait": "ann.png"} for i in range(9)}),
        "there are 9; expected at most 8",
    ),
    "unknown speaker": (change("lines", 1, "who", to="Eve"), "line 2, who: no character 'Eve'; expected Ann or Bob"),
    "unknown listener": (change("lines", 0, "to", to="Eve"), "line 1, to: no character 'Eve'"),
    "to oneself": (change("lines", 0, "to", to="Ann"), "Ann speaks to Ann"),
    "empty line": (change("lines", 0, "text", to="  "), "line 1, text: is empty"),
    "nothing said": (change("lines", 0, "text", to=None), "line 1: says nothing"),
    "negative pause": (change("lines", 1, "pause", to=-0.5), "line 2, pause:"),
    "endless pause": (change("lines", 1, "pause", to=3601), "line 2, pause:"),
    "pause not a number": (change("lines", 1, "pause", to=float("nan")), "line 2, pause:"),
    "pause as text": (change("lines", 1, "pause", to="long"), "line 2, pause:"),
    "unknown emotion": (change("lines", 0, "emotion", to="furious"), "line 1, emotion: no emotion named 'furious'"),
    "too intense": (change("lines", 0, "emotion", to="angry 7"), "line 1, emotion:"),
    "missing portrait": (change("characters", "Ann", "portrait", to="eve.png"), "characters, Ann, portrait: no file"),
    "missing audio": (change("lines", 2, "audio", to="gone.wav"), "line 3, audio: no file"),
    "long name": (change("characters", "Ann", "portrait", to="x" * 300), "characters, Ann, portrait: no file"),
    "long name of a recording": (change("lines", 2, "audio", to="x" * 300), "line 3, audio: no file"),
    "a folder": (change("lines", 2, "audio", to="."), "line 3, audio: no file"),
    "a list": (change("characters", to=[1, 2]), "characters:"),
    "a word for a line": (change("lines", 0, to="hello"), "line 1:"),
    "pitch": (change("characters", "Bob", "pitch", to=120), "characters, Bob, pitch:"),
    "half a pitch": (change("characters", "Bob", "pitch", to=1.5), "characters, Bob, pitch:"),
    "yes is no pitch": (change("characters", "Bob", "pitch", to=True), "characters, Bob, pitch:"),
    "seed": (change("characters", "Bob", "seed", to=2**32), "characters, Bob, seed:"),
    "two faces": (
        change("characters", "Bob", to={"portrait": "bob.png", "face": 1, "face_box": [0, 0, 9, 9]}),
        "characters, Bob: has both a face and a face_box",
    ),
    "no box": (
        change("characters", "Bob", to={"portrait": "bob.png", "face_box": [0, 0]}),
        "characters, Bob, face_box",
    ),
    "yes is no name": (change("lines", 0, "who", to=True), "line 1, who:"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case, content, write):
    apply, says = WRONG[case]
    apply(content)
    path = write(content)
    with pytest.raises(DialogueError, match=re.escape(says)) as caught:
        Script.open(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("characters: [", "is not YAML"),
        ("a: 1\na: 2", "'a' is there twice, line 2"),
        ("just words", "holds text"),
        ("", "holds nothing"),
        ("- 1", "holds a list"),
        ("a: \x01", "is not YAML"),
        ("? [a, b]\n: 1", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("a: !!timestamp 2024-02-30", "is not YAML"),
        ("a: !!map [b]", "is not YAML"),
        ('a: "\\UFFFFFFFF"', "is not YAML"),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1", "is not YAML"),
        ("[" * 5000, "is nested too deeply"),
    ],
)
def test_what_is_no_script(text, says, write):
    with pytest.raises(DialogueError, match=re.escape(says)) as caught:
        Script.open(write(text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DialogueError, match="no script at"):
        Script.open(tmp_path / "none.yaml")
    with pytest.raises(DialogueError, match="no script at"):
        Script.open(tmp_path / ("x" * 300))
    (tmp_path / "latin.yaml").write_bytes("title: Käse".encode("latin-1"))
    with pytest.raises(DialogueError, match="not UTF-8"):
        Script.open(tmp_path / "latin.yaml")


def test_a_cast_has_no_lines_yet(content, folder):
    with pytest.raises(DialogueError, match="has lines already"):
        Cast.parse(content, folder)
    del content["lines"]
    assert list(Cast.parse(content, folder).characters) == ["Ann", "Bob"]
