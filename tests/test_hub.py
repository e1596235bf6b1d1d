"""Encoders from a server on loopback that speaks the Hub's protocol, also where it misbehaves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mlx_gmvae.encoders.encoder import load_encoder
from mlx_gmvae.encoders.find import SHORT_NAMES
from mlx_gmvae.errors import InputError
from mlx_gmvae.hub.repository import INSTALL

import numpy as np
import pytest
from conftest import ROOT
from encoder_oracle import FOLDER
from hub_server import COMMIT, Hub, serving

NOWHERE = "http://127.0.0.1:9"  # a closed port
pixels = np.zeros((1, 56, 56, 3), np.uint8)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    shutil.copytree(FOLDER / "vit", tmp_path / "served")
    with serving(tmp_path, tmp_path / "served", monkeypatch) as served:
        yield served


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
    with pytest.raises(InputError, match=r"model\.safetensors is damaged \(wrong SHA"):
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
        "for call in (\n"
        "    lambda: mg.encode_images('.', 'dinov2-small'),\n"
        "    lambda: mg.load('org/name'),\n"
        "    lambda: mg.push_to_hub('.', 'org/name@v1'),\n"
        "):\n"
        "    try: call()\n"
        "    except mg.InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "assets",
        env={**os.environ, "HF_ENDPOINT": NOWHERE, "HF_HOME": str(tmp_path),
             "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    encoder, model, upload = done.stdout.splitlines()
    assert encoder.startswith("facebook/dinov2-small is not in ")
    assert "the Hub cannot be reached; try again with a network, or give a folder" in encoder
    assert model.startswith("there is no file org/name; org/name is not in ")
    assert model.endswith(
        "the Hub cannot be reached; try again with a network, or give a model file"
    )
    assert upload == "'org/name@v1' is not the name of a repository; it must be ORG/NAME"
    assert "Traceback" not in done.stderr


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"needs the package huggingface_hub: pip install 'mlx_g"):
        load_encoder("org/name")
    assert INSTALL.endswith("[hub]'")
