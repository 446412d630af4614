"""Let a language model write the script: any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from magictalk.dialogue.script import Cast, Script
from magictalk.errors import DialogueError, EndpointError, OptionError
from magictalk.style import EMOTIONS

LINES = 8
"""Lines asked for unless told otherwise."""
MOST_LINES = 200
TIMEOUT, LONGEST_TIMEOUT = 120.0, 3600.0
"""Seconds to wait for an answer: unless told otherwise, and at most."""

_LARGEST_ANSWER = 4 << 20
_QUOTED = 160
"""Characters of a bad answer that an error shows."""
_KEYS = "who", "text", "emotion", "to", "pause"

_SYSTEM = """You write dialogues for talking portraits. Answer with one JSON object and nothing else:
{{"title": "...", "lines": [{{"who": "...", "text": "...", "emotion": "happy 0.7", "to": "..."}}]}}
who and to are one of: {names}. text is what is said aloud, without stage directions, in the language of the request;
one to three sentences. emotion is one of {emotions}, then an intensity from 0.2 to 1.2. Leave out "to" when it
answers whoever spoke last. Everybody speaks."""


@dataclass(frozen=True)
class Endpoint:
    """Where a language model answers.

    Attributes:
        url: of the server, up to ``/v1`` or in full.
        model: its name; None where the server has but one.
        key: sent as a bearer token, None for none.
        timeout: seconds to wait for an answer.

    Raises:
        OptionError: when the address is not http(s), the key cannot be sent, or the time is out of range.
    """

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or not self.url.isascii() or re.search(r"\s", self.url):
            raise OptionError(f"endpoint is {self.url!r}; expected an address such as http://localhost:8000/v1")
        if self.key is not None and not re.fullmatch("[!-~]+", self.key):
            raise OptionError("the endpoint's key is empty or holds a character no key has; check it")
        if not 0 < self.timeout <= LONGEST_TIMEOUT:
            raise OptionError(f"timeout is {self.timeout} s; expected more than 0, up to {LONGEST_TIMEOUT:g}")

    def ask(self, messages: list[dict[str, str]]) -> str:
        """The model's answer to a conversation.

        Raises:
            EndpointError: when nothing answers, the status says no or elsewhere, or the answer is no chat completion.
        """
        address = self._address()
        body: dict[str, Any] = {"messages": messages, "stream": False}
        if self.model is not None:
            body["model"] = self.model
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.build_opener(_AsItIs).open(request, timeout=self.timeout) as answer:
                text = answer.read(_LARGEST_ANSWER).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, TimeoutError):
                raise EndpointError(f"{address} gave no answer within {self.timeout:g} s; try a longer time") from error
            raise EndpointError(f"no answer from {address} ({_line(cause)}); is the server up?") from error
        self._check(answer, address, text)
        try:
            content = _content(json.loads(text))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise EndpointError(f"{address} does not answer as a chat completion: {quoted(text)}") from error
        if not isinstance(content, str) or not content.strip():
            raise EndpointError(f"{address} answers without text: {quoted(text)}")
        return content

    def _check(self, answer: http.client.HTTPResponse, address: str, text: str) -> None:
        """Raise EndpointError unless the status says that all is well."""
        code, moved = answer.status, answer.headers.get("Location")
        if 300 <= code < 400 and moved:
            raise EndpointError(f"{address} has moved to {quoted(moved)}; if you trust that address, give it instead")
        if not 200 <= code < 300:
            hint = "; name a model with --model" if self.model is None and code in (400, 404, 422) else ""
            raise EndpointError(f"{address} answers {code} {_line(answer.reason)}: {quoted(text)}{hint}")

    def _address(self) -> str:
        base = self.url.rstrip("/")
        if base.endswith("/chat/completions"):
            return base
        return f"{base}/chat/completions" if re.search(r"/v\d+$", base) else f"{base}/v1/chat/completions"


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Gives every answer as it is; followed to another address, the key would go there too."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


def write(prompt: str, cast: Cast, endpoint: Endpoint, lines: int = LINES) -> Script:
    """A script for these characters. An answer that cannot be used goes back once, with what is wrong with it.

    Args:
        prompt: what the dialogue is about.
        cast: the characters.
        endpoint: who writes.
        lines: how many lines to ask for, about.

    Raises:
        OptionError: when the prompt is empty or the number of lines out of range.
        EndpointError: when the endpoint fails, or its second answer cannot be used either.
    """
    if not prompt.strip():
        raise OptionError("nothing to write about; expected a few words, such as 'Mona Lisa and Leonardo quarrel'")
    if not 2 <= lines <= MOST_LINES:
        raise OptionError(f"{lines} lines; expected 2 to {MOST_LINES}")
    task = _SYSTEM.format(names=", ".join(map(repr, cast.characters)), emotions=", ".join(EMOTIONS))
    messages = [
        {"role": "system", "content": task},
        {"role": "user", "content": f"{prompt.strip()}\n\nAbout {lines} lines."},
    ]
    answer = endpoint.ask(messages)
    try:
        return _script(answer, cast)
    except DialogueError as error:
        messages += [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": f"This cannot be used: {error}. Answer again, with the JSON object alone."},
        ]
    answer = endpoint.ask(messages)
    try:
        return _script(answer, cast)
    except DialogueError as error:
        raise EndpointError(f"the model wrote no usable script, twice ({error}): {quoted(answer)}") from error


def cast_of(characters: list[str], folder: Path = Path()) -> Cast:
    """Characters written as ``NAME=PORTRAIT`` or ``NAME=PORTRAIT,VOICE``.

    Args:
        characters: two or more.
        folder: where relative paths start.

    Raises:
        OptionError: when one is written otherwise, or a name is there twice.
        DialogueError: when a picture is missing, or there are too few or too many.
    """
    found: dict[str, dict[str, str]] = {}
    for text in characters:
        name, equals, rest = (part.strip() for part in text.partition("="))
        # a voice has no dot, slash or space; a comma in a file's name stays with the file
        match = re.fullmatch(r"(.+?)(?:,\s*([\w+-]+))?", rest)
        if not (name and equals and match):
            raise OptionError(f"character {text!r}; expected NAME=PORTRAIT or NAME=PORTRAIT,VOICE")
        if name in found:
            raise OptionError(f"character {name!r} is there twice; expected different names")
        portrait, voice = match.groups()
        found[name] = {"portrait": portrait} | ({"voice": voice} if voice else {})
    return Cast.parse({"characters": found}, folder, "the cast")


def quoted(text: str) -> str:
    """The beginning of an answer, in one line."""
    line = _line(text)
    return f"'{line[:_QUOTED]}…'" if len(line) > _QUOTED else f"'{line}'"


def _line(text: object) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _content(completion: Any) -> Any:
    """What a chat completion says; the text of one that comes in parts is all of them, without thoughts and pictures.

    Raises:
        LookupError, TypeError, AttributeError: when it is no chat completion.
    """
    content = completion["choices"][0]["message"]["content"]
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type", "text") == "text")
    return content


def _object(answer: str) -> dict[str, Any]:
    """The JSON object in an answer that has a list of lines; thoughts and drafts come before it, so the last.

    Raises:
        DialogueError: when there is none.
    """
    decoder, found, wrong = json.JSONDecoder(), None, ""
    begin = answer.find("{")
    while begin >= 0:
        end = begin + 1
        try:
            data, after = decoder.raw_decode(answer, begin)
        except ValueError as error:
            wrong = wrong or f"the answer is not JSON ({error})"
        except RecursionError as error:
            raise DialogueError("the answer is nested too deeply") from error
        else:
            wrong = wrong or "the answer has no list of lines"
            if isinstance(data.get("lines"), list):
                found, end = data, after
        begin = answer.find("{", end)
    if found is None:
        raise DialogueError(wrong or "the answer has no JSON object")
    return found


def _script(answer: str, cast: Cast) -> Script:
    """The script in a model's answer.

    Raises:
        DialogueError: when there is none, or the script is wrong.
    """
    data = _object(answer)
    for number, line in enumerate(data["lines"], 1):
        # files are the user's to name, never the model's
        if isinstance(line, dict) and not set(line) <= set(_KEYS):
            raise DialogueError(f"line {number} has {', '.join(sorted(set(line) - set(_KEYS)))}; expected {_KEYS}")
        if isinstance(line, dict) and not line.get("text"):
            raise DialogueError(f"line {number} has no text")
    title = data.get("title") or cast.title
    lines = [{k: v for k, v in line.items() if v not in (None, "")} if isinstance(line, dict) else line
             for line in data["lines"]]  # fmt: skip
    known = cast.model_dump(exclude_none=True, exclude={"title"})
    return Script.parse({**known, **({"title": title} if title else {}), "lines": lines}, name="the answer")
