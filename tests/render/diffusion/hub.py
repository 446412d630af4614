"""A hub on this machine: the calls that fetching weights makes, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlparse

Repositories = dict[str, dict[str, bytes]]
COMMIT = "0" * 40


class Hub:
    """Repositories, and what was asked for. ``lies`` are files that come with other bytes than were promised."""

    def __init__(self, repositories: Repositories) -> None:
        self.repositories = repositories
        self.asked: list[str] = []
        self.lies: set[str] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._answer(self, True)

            def do_HEAD(self) -> None:
                hub._answer(self, False)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, body: bool) -> None:
        path = urlparse(request.path).path.strip("/")
        if path.startswith("api/models/"):
            repository = path.removeprefix("api/models/").removesuffix("/revision/main")
            if repository not in self.repositories:
                self._send(request, 404, b"{}", body, {})
                return
            files = [
                {"rfilename": name, "size": len(data)}
                | ({"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}}
                   if name.endswith("safetensors") else {})
                for name, data in self.repositories[repository].items()
            ]  # fmt: skip
            facts = {"id": repository, "sha": COMMIT, "siblings": files, "tags": ["license:test-licence"]}
            self._send(request, 200, json.dumps(facts).encode(), body, {"Content-Type": "application/json"})
            return
        repository, _, name = path.partition("/resolve/")
        name = name.partition("/")[2]
        data = self.repositories.get(repository, {}).get(name)
        if data is None:
            self._send(request, 404, b"", body, {"X-Error-Code": "EntryNotFound"})
            return
        if body:
            self.asked.append(f"{repository}/{name}")
        etag = hashlib.sha256(data).hexdigest()
        if name in self.lies:
            data = bytes(len(data))
        self._send(request, 200, data, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, code: int, data: bytes, body: bool, headers: dict[str, str]) -> None:
        request.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(data)


@contextmanager
def running(repositories: Repositories) -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    hub = Hub(repositories)
    try:
        yield hub
    finally:
        hub.close()
