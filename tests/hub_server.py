"""A server on loopback that speaks the Hub's protocol: downloads, and uploads in commits."""

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WRITER, READER = "hf_writer", "hf_reader"  # tokens
LARGE = (".safetensors", ".npz")  # kept in LFS


class Repository:
    """Folders with the files of each commit, in order."""

    def __init__(self, private: bool = False):
        self.private = private
        self.commits: dict[str, Path] = {}

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def oid(self, name: str) -> str | None:
        """Return the hash of a file of the last commit, by which git or LFS knows it."""
        path = self.commits[self.head] / name if self.commits else None
        if path is None or not path.is_file():
            return None
        content = path.read_bytes()
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """Repositories, of which "org/name" exists at one commit, and what goes wrong with them."""

    def __init__(self, place: Path, folder: Path):
        self.place, self.folder = place, folder
        self.repositories = {"org/name": Repository()}
        self.repositories["org/name"].commits[COMMIT] = folder
        self.objects: dict[str, bytes] = {}  # of LFS, by their SHA-256
        self.status, self.code = 200, ""  # of every answer about org/name
        self.refused: dict[str, int] = {}  # status by a part of the address, of uploads
        self.cuts = 0  # downloads of weights that break in the middle
        self.digest = ""  # of the weights, if it is not theirs
        self.requests: list[str] = []
        self.sent: list[dict[str, Any]] = []  # bodies of commits, line by line

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        path = handler.path.partition("?")[0]
        if "/resolve/" in path:
            return self.send_file(handler, path, token)
        if path == "/api/agent-harnesses":  # newer versions ask for it once
            return self.refuse(handler, 404, "")
        self.requests.append(f"{handler.command} {path}")
        status = next((code for part, code in self.refused.items() if part in path), 0)
        if not status and token not in (WRITER, READER) and "/lfs/" not in path:
            status = 401
        if not status and handler.command == "POST" and token == READER:
            status = 403
        if status:
            return self.refuse(handler, status, "")
        found: dict[str, Any] | None
        known = {
            "/api/whoami-v2": lambda: {"name": "someone"},
            "/api/repos/create": lambda: self.created(json.loads(body)),
            "/api/validate-yaml": lambda: {"warnings": [{"message": "no license"}]},
        }
        if path in known:
            found = known[path]()
        elif path.endswith("/info/lfs/objects/batch"):
            found = self.batch(json.loads(body), f"http://{handler.headers['Host']}/lfs/")
        elif path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
            self.objects[path.removeprefix("/lfs/")] = body
            found = {}
        else:
            found = self.of_repository(path, body)
        if found is None:
            return self.refuse(handler, 404, "RepoNotFound")
        content = json.dumps(found).encode()
        handler.send_response(409 if "error" in found else 200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def created(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            return {"error": "it exists", "url": f"https://huggingface.co/{name}"}
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[name] = Repository(private)
        return {"url": f"https://huggingface.co/{name}"}

    def batch(self, asked: dict[str, Any], place: str) -> dict[str, Any]:
        """Say where to put the objects that are not there yet."""
        answers = []
        for each in asked["objects"]:
            actions = {"actions": {"upload": {"href": place + each["oid"]}}}
            answers.append(each | ({} if each["oid"] in self.objects else actions))
        return {"transfer": "basic", "objects": answers}

    def of_repository(self, path: str, body: bytes) -> dict[str, Any] | None:
        """Answer /api/models/ORG/NAME, .../preupload/REVISION and .../commit/REVISION."""
        org, name, *what = path.removeprefix("/api/models/").split("/")
        found = self.repositories.get(f"{org}/{name}")
        if found is None:
            return None
        if not what or what[0] == "revision":
            sha = found.head if found.commits else None
            return {"id": f"{org}/{name}", "private": found.private, "sha": sha}
        if what[0] == "preupload":
            files = [
                {
                    "path": each["path"], "shouldIgnore": False,
                    "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular",
                    "oid": found.oid(each["path"]),
                }
                for each in json.loads(body)["files"]
            ]  # fmt: skip
            return {"files": files}
        assert what[0] == "commit"
        return self.committed(f"{org}/{name}", found, [json.loads(x) for x in body.splitlines()])

    def committed(self, name: str, found: Repository, lines: list[dict[str, Any]]) -> Any:
        self.sent += lines
        commit = hashlib.sha1(json.dumps(lines).encode() + name.encode()).hexdigest()
        folder = self.place / commit
        if found.commits:
            shutil.copytree(found.commits[found.head], folder)
        folder.mkdir(exist_ok=True)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                (folder / value["path"]).write_bytes(self.objects[value["oid"]])
        found.commits[commit] = folder
        url = f"https://huggingface.co/{name}/commit/{commit}"
        return {"commitUrl": url, "commitOid": commit, "pullRequestUrl": None}

    def send_file(self, handler: BaseHTTPRequestHandler, address: str, token: str) -> None:
        start, _, rest = address.partition("/resolve/")
        revision, _, name = rest.partition("/")
        found = self.repositories.get(start[1:])
        if found is not None:
            self.requests.append(f"{handler.command} {name}")
        is_hidden = found is None or (found.private and token not in (WRITER, READER))
        if self.status != 200 or is_hidden:
            status = self.status if found and self.status != 200 else 401
            return self.refuse(handler, status, self.code or "RepoNotFound")
        assert found is not None
        commit = found.head if revision == "main" else revision
        if commit not in found.commits:
            return self.refuse(handler, 404, "RevisionNotFound")
        path = found.commits[commit] / name
        if not path.is_file():
            return self.refuse(handler, 404, "EntryNotFound")
        content, asked = path.read_bytes(), handler.headers.get("Range", "")
        is_large = name.endswith(LARGE)
        kind = hashlib.sha256 if is_large else hashlib.sha1
        etag = (self.digest if is_large else "") or kind(content).hexdigest()
        start_at = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        body = content[start_at:]
        handler.send_response(206 if asked else 200)
        handler.send_header("X-Repo-Commit", commit)
        handler.send_header("ETag", f'"{etag}"')
        handler.send_header("Content-Length", str(len(body)))
        if asked:
            handler.send_header(
                "Content-Range", f"bytes {start_at}-{len(content) - 1}/{len(content)}"
            )
        handler.end_headers()
        if handler.command == "GET":
            is_cut = is_large and self.cuts > 0
            self.cuts -= is_cut
            handler.wfile.write(body[: len(body) // 2] if is_cut else body)
            handler.close_connection = is_cut or handler.close_connection

    def refuse(self, handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
        handler.send_response(status)
        if code:
            handler.send_header("X-Error-Code", code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def listening(served: Hub) -> Iterator[str]:
    """Serve repositories on loopback, at the address that the context returns."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_POST = do_PUT = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@contextmanager
def serving(place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve `folder` as org/name on loopback, with a cache in `place` and without a token."""
    constants = pytest.importorskip("huggingface_hub.constants")
    served = Hub(place, folder)
    with listening(served) as address:
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(place / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        for module in ("file_download", "utils._http"):
            monkeypatch.setattr(f"huggingface_hub.{module}.time.sleep", lambda seconds: None)
        yield served
