"""A language model writes the script: asked over real HTTP, and every way in which that goes wrong."""

import json
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from magictalk.dialogue.script import Cast
from magictalk.dialogue.writer import Endpoint, cast_of, write
from magictalk.errors import DialogueError, EndpointError, OptionError

GOOD = {
    "title": "A quarrel",
    "lines": [
        {"who": "Ann", "text": "You are late!", "emotion": "angry 0.8"},
        {"who": "Bob", "text": "Am I?", "emotion": "surprised", "to": "Ann", "pause": None},
    ],
}


class Server:
    """Answers chat requests with what it is given, one after the other, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[dict] = []
        self.paths: list[str] = []
        self.headers: list[dict] = []
        self.delay = 0.0
        self.location: str | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.asked.append(json.loads(body))
                server.paths.append(self.path)
                server.headers.append(dict(self.headers))
                time.sleep(server.delay)
                status, answer = server.answers.pop(0)
                with suppress(BrokenPipeError):  # who asked may have gone
                    self.send_response(status)
                    if server.location is not None:
                        self.send_header("Location", server.location)
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, *contents: object) -> None:
        for content in contents:
            text = content if isinstance(content, str) else json.dumps(content)
            answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
            self.answers.append((200, json.dumps(answer).encode()))

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def cast(content, folder) -> Cast:
    del content["lines"]
    return Cast.parse(content, folder)


def test_a_script_comes_back_for_the_characters(server, cast):
    server.says(GOOD)
    script = write("they quarrel", cast, Endpoint(server.url, "small", "secret"), lines=5)
    assert [(x.who, x.text, x.emotion) for x in script.lines] == [
        ("Ann", "You are late!", "angry 0.8"),
        ("Bob", "Am I?", "surprised"),
    ]
    assert script.title == "A quarrel" and script.characters["Ann"].voice == "en+f3"
    assert script.characters["Bob"].portrait.samefile(cast.characters["Bob"].portrait)
    (asked,) = server.asked
    assert asked["model"] == "small" and asked["messages"][-1]["content"].startswith("they quarrel")
    task = asked["messages"][0]["content"]
    assert "'Ann'" in task and "'Bob'" in task and "contempt" in task
    assert server.headers[0]["Authorization"] == "Bearer secret" and server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("end", ["", "/", "/chat/completions"])
def test_addresses(server, cast, end):
    server.says(GOOD)
    write("x", cast, Endpoint(server.url + end))
    assert server.paths == ["/v1/chat/completions"]
    assert "model" not in server.asked[0] and "Authorization" not in server.headers[0]


def test_the_server_alone_is_enough(server, cast):
    server.says(GOOD)
    write("x", cast, Endpoint(server.url.removesuffix("/v1")))
    assert server.paths == ["/v1/chat/completions"]


def test_words_and_fences_around_the_script_do_not_matter(server, cast):
    server.says(f"Sure! Here it is:\n```json\n{json.dumps(GOOD, indent=2)}\n```\nEnjoy.")
    assert len(write("x", cast, Endpoint(server.url)).lines) == 2


@pytest.mark.parametrize(
    "before",
    [
        "<think>First {a}, then {b}: [1, {}]</think>",
        '<think>A draft: {"lines": [{"who": "...", "text": "..."}]} - better now.</think>',
        'The cast: {"names": ["Ann", "Bob"]}. ',
        '{"script": ',
    ],
)
def test_thoughts_and_drafts_before_the_script_do_not_matter(server, cast, before):
    server.says(before + json.dumps(GOOD) + "} That was {all}.")
    assert [x.text for x in write("x", cast, Endpoint(server.url)).lines] == ["You are late!", "Am I?"]


def test_an_answer_in_parts_is_one(server, cast):
    text = json.dumps(GOOD)
    parts = [{"type": "thinking", "thinking": "{"}, *({"type": "text", "text": t} for t in (text[:30], text[30:]))]
    server.answers.append((200, json.dumps({"choices": [{"message": {"content": parts}}]}).encode()))
    assert len(write("x", cast, Endpoint(server.url)).lines) == 2


def test_empty_values_are_not_given(server, cast):
    line = {"who": "Ann", "text": "Hm.", "emotion": "", "to": "", "pause": ""}
    server.says({"title": "", "lines": [line]})
    (read,) = write("x", cast, Endpoint(server.url)).lines
    assert (read.emotion, read.to, read.pause) == (None, None, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_goes_to_no_other_address(server, cast, status):
    elsewhere = Server()
    server.location = f"{elsewhere.url}/chat/completions"
    server.answers.append((status, b""))
    with pytest.raises(EndpointError, match=f"has moved to '{server.location}'"):
        write("x", cast, Endpoint(server.url, key="secret"))
    assert len(server.asked) == 1 and elsewhere.asked == []
    elsewhere.close()


def bad(**line: object) -> dict:
    return {"lines": [GOOD["lines"][0], {"who": "Bob", "text": "Hm."} | line]}


NONSENSE = {
    "no JSON": ("I would rather not.", "no JSON object"),
    "half": ('{"lines": [{"who": "Ann"', "not JSON"),
    "a list": ("[1, 2]", "no JSON object"),
    "cut off": (json.dumps(GOOD)[:-20], "not JSON"),
    "deep": ('{"lines": ' * 100_000, "nested too deeply"),
    "no lines": ({"title": "x"}, "no list of lines"),
    "empty": ({"lines": []}, "lines: is empty"),
    "stranger": (bad(who="Eve"), "line 2, who: no character 'Eve'"),
    "mood": (bad(emotion="furious"), "line 2, emotion: no emotion named 'furious'"),
    "silence": (bad(text=" "), "line 2, text: is empty"),
    "no text": (bad(text=None), "line 2 has no text"),
    "file": (bad(audio="tone.wav"), "line 2 has audio"),
    "text": ({"lines": ["hello"]}, "line 1:"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_goes_back_once_with_what_is_wrong(server, cast, case):
    answer, says = NONSENSE[case]
    server.says(answer, GOOD)
    assert len(write("x", cast, Endpoint(server.url)).lines) == 2
    first, second = server.asked
    assert second["messages"][:2] == first["messages"] and len(second["messages"]) == 4
    assert second["messages"][2]["role"] == "assistant" and says in second["messages"][3]["content"]


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_twice_is_an_error_that_quotes_it(server, cast, case):
    answer, says = NONSENSE[case]
    server.says(answer, answer)
    with pytest.raises(EndpointError) as caught:
        write("x", cast, Endpoint(server.url))
    message = str(caught.value)
    assert says in message and "\n" not in message and "twice" in message and len(message) < 500


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, b'{"error": "bad key"}', '401 Unauthorized: \'{"error": "bad key"}\''),
        (404, b"no such model", "name a model with --model"),
        (500, b"\x00\xff oops\n" * 500, "500 Internal Server Error"),
        (200, b"<html>hello</html>", "not answer as a chat completion: '<html>"),
        (200, b'{"choices": []}', "not answer as a chat completion"),
        (200, b'{"choices": [{"message": null}]}', "not answer as a chat completion"),
        (200, b"[1]", "not answer as a chat completion"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "answers without text"),
        (200, b'{"choices": [{"message": {"content": " "}}]}', "answers without text"),
        (200, b"", "not answer as a chat completion"),
        (200, b"[" * 100_000, "not answer as a chat completion"),
        (200, b'{"choices": [{"message": {"content": [1]}}]}', "not answer as a chat completion"),
        (200, b'{"choices": [{"message": {"content": []}}]}', "answers without text"),
        (304, b"", "304 Not Modified"),
    ],
)
def test_answers_that_are_none(server, cast, status, body, says):
    server.answers.append((status, body))
    with pytest.raises(EndpointError) as caught:
        write("x", cast, Endpoint(server.url))
    assert says in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_server_that_is_down(cast):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match=f"no answer from http://127.0.0.1:{port}/v1.*is the server up"):
        write("x", cast, Endpoint(f"http://127.0.0.1:{port}/v1"))


def test_a_host_that_cannot_exist(cast):
    with pytest.raises(EndpointError, match="no answer from"):
        write("x", cast, Endpoint("http://a..b/v1"))


def test_a_server_that_is_too_slow(server, cast):
    server.delay = 1.0
    server.says(GOOD)
    with pytest.raises(EndpointError, match=r"no answer within 0\.2 s"):
        write("x", cast, Endpoint(server.url, timeout=0.2))


@pytest.mark.parametrize("url", ["", "localhost:8000", "file:///etc/passwd", "http://", "http://[::1", "http://a b/v1"])
def test_addresses_that_are_none(url):
    with pytest.raises(OptionError, match="expected an address such as"):
        Endpoint(url)


@pytest.mark.parametrize("timeout", [0, -1, 3601, float("nan"), float("inf")])
def test_timeouts_out_of_range(timeout):
    with pytest.raises(OptionError, match="expected more than 0, up to 3600"):
        Endpoint("http://localhost", timeout=timeout)


@pytest.mark.parametrize("key", ["", "two words", "a\r\nHost: b", "schlüssel"])
def test_keys_that_cannot_be_sent(key):
    with pytest.raises(OptionError, match="key"):
        Endpoint("http://localhost", key=key)


def test_keys_are_not_shown():
    assert "secret" not in repr(Endpoint("http://localhost", key="secret"))


@pytest.mark.parametrize(("prompt", "lines"), [(" ", 8), ("x", 1), ("x", 1000)])
def test_nothing_to_ask_for(cast, prompt, lines):
    with pytest.raises(OptionError):
        write(prompt, cast, Endpoint("http://localhost"), lines)


def test_characters_in_a_word(folder, tmp_path):
    (tmp_path / "a, b=c.png").symlink_to(folder / "ann.png")
    cast = cast_of([f"Mona Lisa = {folder / 'ann.png'}, en+f3", f"Bob={tmp_path / 'a, b=c.png'}"])
    assert cast.characters["Mona Lisa"].voice == "en+f3" and cast.characters["Bob"].voice is None
    assert cast.characters["Bob"].portrait.name == "a, b=c.png"


@pytest.mark.parametrize("text", ["ann.png", "=ann.png", "Ann="])
def test_characters_written_otherwise(text):
    with pytest.raises(OptionError, match="expected NAME=PORTRAIT"):
        cast_of([text, "Bob=bob.png"])


def test_characters_that_cannot_be(folder):
    ann = f"Ann={folder / 'ann.png'}"
    with pytest.raises(OptionError, match="'Ann' is there twice"):
        cast_of([ann, ann])
    with pytest.raises(DialogueError, match="two characters or more"):
        cast_of([ann])
    with pytest.raises(DialogueError, match="Bob, portrait: no file at"):
        cast_of([ann, "Bob=none.png"])
    with pytest.raises(DialogueError, match="Bob, portrait: no file at"):
        cast_of([ann, f"Bob={'x' * 300}"])
