"""Encoders from a server on loopback that speaks the Hub's protocol, also where it misbehaves."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mlx_gmvae.encoders import hub as ours
from mlx_gmvae.encoders.encoder import load_encoder
from mlx_gmvae.encoders.find import SHORT_NAMES
from mlx_gmvae.errors import InputError

import numpy as np
import pytest
from conftest import ROOT
from encoder_oracle import FOLDER

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOWHERE = "http://127.0.0.1:9"  # a closed port
pixels = np.zeros((1, 56, 56, 3), np.uint8)


class Hub:
    """A repository "org/name" at one commit, and what goes wrong with it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.status, self.code = 200, ""  # of every answer
        self.cuts = 0  # downloads of weights that break in the middle
        self.digest = ""  # of the weights, if it is not theirs
        self.requests: list[str] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        start, _, name = handler.path.rpartition("/")
        path, is_ours = self.folder / name, start.startswith("/org/name/resolve/")
        if is_ours:
            self.requests.append(f"{handler.command} {name}")
        if self.status != 200 or not is_ours:
            return self.refuse(
                handler, self.status if is_ours else 401, self.code or "RepoNotFound"
            )
        if start.rpartition("/")[2] not in ("main", COMMIT):
            return self.refuse(handler, 404, "RevisionNotFound")
        if not path.is_file():
            return self.refuse(handler, 404, "EntryNotFound")
        content, asked = path.read_bytes(), handler.headers.get("Range", "")
        is_large = name.endswith(".safetensors")
        kind = hashlib.sha256 if is_large else hashlib.sha1
        etag = (self.digest if is_large else "") or kind(content).hexdigest()
        start_at = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        body = content[start_at:]
        handler.send_response(206 if asked else 200)
        handler.send_header("X-Repo-Commit", COMMIT)
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
        handler.send_header("X-Error-Code", code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    constants = pytest.importorskip("huggingface_hub.constants")
    shutil.copytree(FOLDER / "vit", tmp_path / "served")
    served = Hub(tmp_path / "served")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        address = f"http://127.0.0.1:{httpd.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        yield served
        httpd.shutdown()
        thread.join()


def test_only_what_is_needed_is_downloaded_and_kept(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.folder / "pytorch_model.bin").write_bytes(b"pickled")
    said: list[str] = []
    encoder = load_encoder("org/name", said.append)
    size = (hub.folder / "model.safetensors").stat().st_size
    cache = hub.folder.parent / "cache"
    assert said == [f"downloading org/name: {size / 1e6:.1f} MB into {cache}"]
    got = [request.removeprefix("GET ") for request in hub.requests if request.startswith("GET")]
    assert got == ["config.json", "preprocessor_config.json", "model.safetensors"]
    local = load_encoder(FOLDER / "vit")
    np.testing.assert_array_equal(encoder.features(pixels), local.features(pixels))
    identity = encoder.id
    assert (identity.repository, identity.revision) == ("org/name", COMMIT)
    assert identity.sha256 == local.id.sha256
    # Again, by name and by the commit that a model file names: nothing is downloaded.
    hub.requests.clear()
    assert load_encoder("org/name", said.append).id == identity
    assert load_encoder(f"org/name@{COMMIT}", said.append).id == identity
    assert not [request for request in hub.requests if request.startswith("GET")] and len(said) == 1
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_encoder("org/name").id == identity
    with pytest.raises(InputError, match=r"org/else is not in .* HF_HUB_OFFLINE is set; unset it"):
        load_encoder("org/else")


def test_shards_come_from_the_hub_and_from_its_cache(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub.folder / "model.safetensors").rename(hub.folder / "model-1.safetensors")
    index = hub.folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    wanted = load_encoder("org/name").id
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_encoder("org/name").id == wanted


def test_a_download_that_breaks_goes_on_where_it_was(hub: Hub) -> None:
    hub.cuts = 2
    wanted = load_encoder(FOLDER / "vit").id.sha256
    assert load_encoder("org/name").id.sha256 == wanted
    assert hub.requests.count("GET model.safetensors") == 3


def test_a_wrong_file_is_not_kept(hub: Hub) -> None:
    hub.digest = "00" * 32
    with pytest.raises(InputError, match=r"model\.safetensors came damaged \(wrong SHA"):
        load_encoder("org/name")
    hub.digest = ""
    assert load_encoder("org/name").id.repository == "org/name"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "GatedRepo", r"the terms of org/name .* do so on http.*/org/name, then run: hf"),
        (401, "GatedRepo", "the terms of org/name must be accepted"),
        (401, "", "there is no repository org/name on the Hugging Face Hub, or it is private"),
        (404, "RepoNotFound", "there is no repository org/name"),
        (403, "Other", r"refuses org/name \(HTTP 403\); run: hf auth login"),
        (404, "EntryNotFound", "org/name has no config.json"),
        (500, "Other", r"cannot download org/name \(HTTP 500\); run the command again"),
    ],
)
def test_what_the_hub_refuses_is_said_with_a_remedy(
    hub: Hub, status: int, code: str, message: str
) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(InputError, match=message):
        load_encoder("org/name")


def test_other_repositories_and_revisions_are_refused(hub: Hub) -> None:
    with pytest.raises(InputError, match="has no revision v9; see"):
        load_encoder("org/name@v9")
    with pytest.raises(InputError, match="there is no repository facebook/dinov2-small"):
        load_encoder("dinov2-small")
    (hub.folder / "model.safetensors").rename(hub.folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"org/name@0123.* in pytorch_model\.bin only"):
        load_encoder("org/name")
    (hub.folder / "preprocessor_config.json").unlink()
    shutil.rmtree(hub.folder.parent / "cache")
    with pytest.raises(InputError, match=r"has no preprocessor_config\.json"):
        load_encoder("org/name")
    assert all(name.count("/") == 1 for name in SHORT_NAMES.values())


def test_without_a_network_one_line_says_so(tmp_path: Path) -> None:
    """In a process of its own, by the environment variables that huggingface_hub knows."""
    pytest.importorskip("huggingface_hub")
    code = (
        "import mlx_gmvae as mg\n"
        "try: mg.encode_images('.', 'dinov2-small')\n"
        "except mg.InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "assets",
        env={**os.environ, "HF_ENDPOINT": NOWHERE, "HF_HOME": str(tmp_path),
             "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.stdout.startswith("facebook/dinov2-small is not in ") and "\n" in done.stdout
    assert "the Hub cannot be reached; try again with a network, or give a folder" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"needs the package huggingface_hub: pip install 'mlx_g"):
        load_encoder("org/name")
    assert ours.INSTALL.endswith("[hub]'")
