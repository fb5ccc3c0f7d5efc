"""A local server that speaks as much of the Hugging Face hub's protocol as a download needs, and can misbehave."""

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """`files`: path -> content at COMMIT. `cut`: path -> bytes after which the connection breaks, once; `broken`: paths
    that answer 500; `lies`: path -> content sent instead. `ranges`: first bytes asked for, by path."""

    daemon_threads = True

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repo, self.files = repo, files
        self.cut: dict[str, int] = {}
        self.broken: set[str] = set()
        self.lies: dict[str, bytes] = {}
        self.ranges: dict[str, list[int]] = {}
        self.requests: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that went away is part of the tests."""


class HubHandler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/datasets/"):
            if not path.startswith(f"/api/datasets/{self.server.repo}/"):
                return self.refuse(404, "RepoNotFound")
            if not re.search(f"/revision/(main|{COMMIT})$", path):
                return self.refuse(404, "RevisionNotFound")
            return self.answer(json.dumps({"id": self.server.repo, "sha": COMMIT, "siblings": []}).encode())
        name = path.partition(f"/datasets/{self.server.repo}/resolve/{COMMIT}/")[2]
        self.server.requests[name] += 1
        if name in self.server.broken:
            return self.refuse(500, "")
        if name not in self.server.files:
            return self.refuse(404, "EntryNotFound")
        return self.send_file(name, self.server.lies.get(name, self.server.files[name]))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        found = [self.described(path) for path in asked if path in self.server.files]
        self.answer(json.dumps(found).encode())

    def described(self, path: str) -> dict:
        content = self.server.files[path]
        entry = {"type": "file", "path": path, "size": len(content)}
        if path.endswith((".bin", ".model")):
            sha256 = hashlib.sha256(content).hexdigest()
            return {**entry, "oid": "0" * 40, "lfs": {"oid": sha256, "size": len(content), "pointerSize": 134}}
        return {**entry, "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}

    def send_file(self, name: str, content: bytes) -> None:
        first = 0
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked:
            first = int(asked[1])
        self.server.ranges.setdefault(name, []).append(first)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.send_header("ETag", '"x"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        until = self.server.cut.pop(name, None)
        self.wfile.write(content[first:until])
        if until is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
