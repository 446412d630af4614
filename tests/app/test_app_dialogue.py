"""The command ``dialogue``: files that appear, and errors in one line that leave none."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from magictalk.dialogue.script import Script
from magictalk.video import probe

LINES = [{"who": "Ann", "text": "Hello you!"}, {"who": "Bob", "text": "Go away."}]


@pytest.fixture(scope="session")
def cast(astronaut, tmp_path_factory) -> dict:
    """Two characters; the second is the first mirrored."""
    folder = tmp_path_factory.mktemp("cast")
    for name, picture in (("ann", astronaut[20:240, 120:319]), ("bob", astronaut[20:240, 318:119:-1])):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{name}.png")
    return {name: {"portrait": str(folder / f"{name.lower()}.png"), "voice": "en"} for name in ("Ann", "Bob")}


@pytest.fixture
def script(cast, tmp_path_factory):
    """Write a script somewhere else than where output goes."""

    def call(**content: object) -> Path:
        path = tmp_path_factory.mktemp("script") / "talk.yaml"
        path.write_text(yaml.safe_dump({"characters": cast} | content), "utf-8")
        return path

    return call


@pytest.fixture
def endpoint():
    """An endpoint that always gives the same answer; returns its address when told which."""
    servers = []

    def call(content: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"choices": [{"message": {"content": content}}]}).encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/v1"

    yield call
    for server in servers:
        server.shutdown()
        server.server_close()


def characters(cast: dict) -> list[str]:
    return [part for name, c in cast.items() for part in ("--character", f"{name}={c['portrait']},en")]


QUICK = ("--height", 128, "--drive", "audio2bs")


def test_a_script_becomes_a_video_with_subtitles(run, script, tmp_path):
    out = tmp_path / "talk.mp4"
    code, printed, _ = run("dialogue", script(lines=LINES), "-o", out, *QUICK)
    assert code == 0 and printed.split("\n")[:2] == [str(out), str(tmp_path / "talk.srt")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["talk.mp4", "talk.srt"]
    assert probe(out).height == 128 and probe(out).has_audio
    assert "Hello you!" in (tmp_path / "talk.srt").read_text() and "Go away." in (tmp_path / "talk.srt").read_text()


def test_a_model_writes_and_the_script_is_kept(run, cast, endpoint, tmp_path):
    url = endpoint(json.dumps({"title": "Greetings", "lines": LINES}))
    out = tmp_path / "talk.webm"
    asked = "dialogue", "--write", "they greet", "--endpoint", url, *characters(cast), "-o", out
    code, printed, _ = run(*asked, "--script-only")
    assert (code, printed) == (0, f"{tmp_path / 'talk.yaml'}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["talk.yaml"]
    written = Script.open(tmp_path / "talk.yaml")
    assert written.title == "Greetings" and [x.text for x in written.lines] == ["Hello you!", "Go away."]
    code, _, err = run(*asked, "--script-only")
    assert code == 2 and "talk.yaml exists" in err  # what may have been edited is not lost
    code, printed, _ = run("dialogue", tmp_path / "talk.yaml", "-o", out, *QUICK, "--subtitles", "burn")
    assert (code, printed) == (0, f"{out}\n")


def test_the_script_is_kept_when_the_rest_goes_wrong(run, cast, endpoint, tmp_path):
    url = endpoint(json.dumps({"lines": LINES}))
    wanted = "--write", "x", "--endpoint", url, *characters(cast), "-o", tmp_path / "talk.mp4", "--height", 99
    code, _, err = run("dialogue", *wanted)
    assert code == 2 and err.startswith("error: height is 99") and [p.name for p in tmp_path.iterdir()] == ["talk.yaml"]


def test_the_characters_file_is_not_written_over(run, script, tmp_path):
    mine = script().rename(tmp_path / "cast.yaml")
    before = mine.read_bytes()
    asked = "dialogue", mine, "--write", "x", "--endpoint", "http://127.0.0.1:9", "-o", tmp_path / "cast.mp4"
    code, _, err = run(*asked, "--overwrite")
    assert code == 2 and f"what is written would replace {mine}" in err and err.count("\n") == 1
    assert mine.read_bytes() == before


def test_nonsense_from_the_model(fails, cast, endpoint, tmp_path):
    url = endpoint("I'm sorry, I can't do that.")
    asked = "dialogue", "--write", "x", "--endpoint", url, *characters(cast), "-o", tmp_path / "a.mp4"
    fails(*asked, says="no usable script, twice (the answer has no JSON object")


def test_no_endpoint_answers(fails, script, tmp_path):
    asked = "dialogue", script(), "--write", "x", "--endpoint", "http://127.0.0.1:9/v1", "-o", tmp_path / "a.mp4"
    fails(*asked, says="no answer from http://127.0.0.1:9/v1/chat/completions")


WRONG = {
    "nothing": ((), "no script; give a YAML file, or --write"),
    "missing": (("none.yaml",), "no script at none.yaml"),
    "no endpoint": (("--write", "x", "--character", "Ann={ann}", "--character", "Bob={ann}"), "needs --endpoint URL"),
    "no characters": (("--write", "x", "--endpoint", "http://localhost"), "--write needs the characters"),
    "key": (
        (*("--write", "x", "--endpoint", "http://localhost", "--api-key-env", "NO_SUCH_KEY"),
         *("--character", "Ann={ann}", "--character", "Bob={ann}")),
        "no environment variable NO_SUCH_KEY",
    ),
    "model without write": (("{script}", "--model", "x"), "go with --write"),
    "resume and write": (("{script}", "--write", "x", "--resume"), "give it as SCRIPT, without --write"),
    "lines already": (("{script}", "--write", "x", "--endpoint", "http://localhost"), "has lines already"),
    "layout": (("{script}", "--layout", "circle"), "circle"),
    "gap": (("{script}", "--gap", "-1"), "gap is -1.0 s"),
    "height": (("{script}", "--height", "9999"), "height is 9999"),
    "long name": (("x" * 300,), "no script at xxx"),
    "long name of a font": (
        ("{script}", "--font", "x" * 300, "--subtitles", "burn", "--drive", "audio2bs"), "no font file at xxx",
    ),
    "seed": (("{script}", "--seed", str(2**32)), "4294967295"),
    "font": (("{script}", "--font", "no.ttf", "--subtitles", "burn", "--drive", "audio2bs"), "no font file at no.ttf"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(fails, script, cast, tmp_path, case):
    arguments, says = WRONG[case]
    places = {"script": script(lines=LINES), "ann": cast["Ann"]["portrait"]}
    fails("dialogue", *(a.format(**places) for a in arguments), "-o", tmp_path / "a.mp4", says=says)


@pytest.mark.parametrize("name", ["talk.mp4", "talk.srt"])
def test_files_that_are_there_stay(run, script, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    code, _, err = run("dialogue", script(lines=LINES), "-o", tmp_path / "talk.mp4", *QUICK)
    assert code == 2 and f"{name} exists" in err
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"mine"
