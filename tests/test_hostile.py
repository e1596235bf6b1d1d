"""What comes in from outside is used rightly or refused in one line: short forms of the soaks."""

import contextlib
import gzip
import importlib
import io
import json
import struct
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx_gmvae as mg
from mlx_gmvae.config import ModelConfig, TrainConfig
from mlx_gmvae.data.arrays import array_shapes, read_arrays
from mlx_gmvae.data.dataset_spec import DatasetSpec
from mlx_gmvae.data.datasets import load_dataset
from mlx_gmvae.data.idx import read_idx
from mlx_gmvae.device import backend
from mlx_gmvae.errors import InputError
from mlx_gmvae.models import build_model
from mlx_gmvae.runs.checked_model import Model
from mlx_gmvae.runs.checkpoint import load_arrays, load_info, load_model, save_arrays, save_model
from mlx_gmvae.runs.run_folder import RunFolder
from mlx_gmvae.training.api import new_trainer
from mlx_gmvae.training.checks import require_like
from mlx_gmvae.training.trainer import Trainer

import mlx.core as mx
import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))
soak_downloads, soak_files, soak_mutations, soak_page = (
    importlib.import_module(name)
    for name in ("soak_downloads", "soak_files", "soak_mutations", "soak_page")
)

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
CONFIG = ModelConfig(arch="mlp", image_size=(8, 8), hidden_dims=8, K=3, latent_dims=2)
FILES_EACH = 12
FAULTS = ("cut", "trickles", "resets half way", "redirects to itself", "a page of HTML", "404",
          "500", "one byte wrong", "a length that is none")  # fmt: skip


@pytest.mark.parametrize("kind", soak_files.KINDS)
def test_mutated_files_are_read_right_or_refused_in_a_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(soak_mutations, "BOMB_BYTES", 1 << 20)
    assert soak_files.read_good(kind, tmp_path)  # or refusing everything would do
    found = [soak_files.attempt(kind, seed, tmp_path) for seed in range(FILES_EACH)]
    assert not any(found), list(filter(None, found))


def npz(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def npy(array: np.ndarray, shape: str = "") -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    if not shape:
        return content
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return content[:8] + len(header).to_bytes(2, "little") + header + content[128:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(("images.npy", npy(IMAGES)), ("images.npy", npy(IMAGES))), "2 arrays are called"),
        (npz(("images.npy", npy(IMAGES)), ("images", npy(IMAGES))), "2 arrays are called"),
        (npz(("images.npy", npy(IMAGES) + bytes(1 << 20))), "its header announces 1536 bytes"),
        (npz(("images.npy", npy(IMAGES, "(10**9,)"))), "not a readable"),
        (npz(("images.npy", npy(IMAGES, "(1000000000, 8, 8)"))), "announces 64000000000"),
        (npz(("images.npy", npy(IMAGES, "(-24, 8, 8)"))), r"has the shape \(-24, 8, 8\)"),
        (npz(("images.npy", npy(IMAGES)), method=zipfile.ZIP_LZMA), "NumPy does not write"),
        (npz(("images.npy", b"nothing")), "not a readable"),
        (npz(("../images.npy", npy(IMAGES))), "no array named images"),
        (npy(IMAGES, "(1000000000, 8, 8)"), "announces 64000000000"),
        (npy(IMAGES, "(" * 300 + ")" * 300), "not a readable"),
    ],
)
def test_arrays_that_lie_are_refused_before_memory_is_taken(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / ("a.npz" if content[:2] == b"PK" else "a.npy")
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_dataset(str(path))


def test_labels_of_a_byte_may_be_the_largest(tmp_path: Path) -> None:
    labels = np.array([255, 0, 7] * 8, np.uint8)
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=labels)
    found = load_dataset(str(tmp_path / "a.npz")).named("all")
    assert found.label_names.tolist() == labels[found.index].astype(str).tolist()


def test_of_an_npz_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    bomb = npy(np.zeros(1 << 20, np.uint8)) + bytes(1 << 20)
    (tmp_path / "a.npz").write_bytes(npz(("images.npy", npy(IMAGES)), ("bomb.npy", bomb)))
    assert load_dataset(str(tmp_path / "a.npz")).train.image_shape == (8, 8, 1)
    assert set(read_arrays(tmp_path / "a.npz", ["images"])) == {"images"}
    assert array_shapes(tmp_path / "a.npz")["images"] == ((24, 8, 8, 1), "|u1")


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (24, 8, 8))
    (tmp_path / "idx.gz").write_bytes(gzip.compress(header + IMAGES.tobytes() + bytes(1 << 22)))
    with pytest.raises(InputError, match="truncated or too long"):  # a byte too many is enough
        read_idx(tmp_path / "idx.gz")
    monkeypatch.setattr("mlx_gmvae.data.arrays.memory_bytes", lambda: 1000)
    with pytest.raises(InputError, match="this machine has 0"):
        load_dataset(str(tmp_path / "a.npy"))
    with pytest.raises(InputError, match="this machine has 0"):
        read_idx(tmp_path / "idx.gz")
    assert backend.memory_bytes() > 1 << 28


def test_a_gzipped_file_that_announces_more_than_it_has_is_not_kept(tmp_path: Path) -> None:
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (1 << 26, 8, 8))
    (tmp_path / "idx.gz").write_bytes(gzip.compress(header + bytes(100 << 20), 1))
    tracemalloc.start()
    with pytest.raises(InputError, match="announces 4294967296 bytes, but it has 104857600"):
        read_idx(tmp_path / "idx.gz")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60 << 20  # of 100; Python 3.12 and later hold three pieces of 16 at a time
    header = header[:4] + b"".join(n.to_bytes(4, "big") for n in (20480, 8, 8))
    (tmp_path / "black.gz").write_bytes(gzip.compress(header + bytes(20480 * 64)))
    assert read_idx(tmp_path / "black.gz").shape == (20480, 8, 8)  # compressed well, in earnest


@pytest.mark.parametrize("start", [-(1 << 40), 4, 1 << 40])
def test_arrays_of_safetensors_lie_within_the_file(start: int, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, build_model(CONFIG))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    header[name]["data_offsets"] = [offset + start for offset in header[name]["data_offsets"]]
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])
    if start == 4:  # another place of the right size
        load_model(path)
        return
    with pytest.raises(InputError, match="damaged"):
        load_model(path)


def test_what_a_model_says_of_itself_may_be_anything(tmp_path: Path) -> None:
    for metrics in ({"clustering": [1]}, {"clustering": {"accuracy": "x"}}, {"generative": None}):
        save_model(tmp_path / "m.npz", build_model(CONFIG), metrics=metrics)
        assert "accuracy" not in repr(mg.load(tmp_path / "m.npz"))


def test_weights_too_large_to_multiply_are_refused(tmp_path: Path) -> None:
    model = build_model(CONFIG)
    model.update({"z_head": {"bias": mx.full(model.z_head.bias.shape, 1e38)}})
    save_model(tmp_path / "m.npz", model)
    with pytest.raises(InputError, match=r"z_head.bias has values above 1e\+12"):
        load_model(tmp_path / "m.npz")


def trainer(**options: Any) -> Trainer:
    mx.random.seed(0)
    config = TrainConfig.from_dict({"epochs": 2, "batchsize": 8, "neighbours": 2, **options})
    return new_trainer(build_model(CONFIG), IMAGES, config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two epochs."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    trained = trainer()
    list(trained.run())
    folder.save(trained, DatasetSpec("digits"), {})
    folder.load_neighbours(IMAGES, trained.config)
    return folder


WRONG_STATES: list[tuple[Callable[[dict[str, mx.array], dict[str, Any]], Any], str]] = [
    (lambda a, p: a.pop("totals"), "totals is missing"),
    (lambda a, p: a.update(totals=mx.zeros(2)), "totals is"),
    (lambda a, p: a.update({"optimizer.step": mx.array(1.0)}), "optimizer.step is"),
    (lambda a, p: a.update(random_key=mx.zeros(3)), "random_key is"),
    (lambda a, p: a.update({"trained.heads.chosen": mx.array(77)}), "no head 77"),
    (lambda a, p: a.update({"trained.heads.bias": a["trained.heads.bias"] / 0}), "not finite"),
    (lambda a, p: p.update(step=-1), "step -1"),
    (lambda a, p: p.update(epoch=1.5), "epoch 1.5"),
    (lambda a, p: p.update(history=[]), "history"),
    (lambda a, p: p["history"][0].update(loss="x"), "epoch 1 of its history"),
    (lambda a, p: p.update(seconds=float("nan")), "seconds"),
    (lambda a, p: p.pop("seconds"), "seconds"),
]


def test_a_state_that_does_not_fit_is_refused(run: RunFolder) -> None:
    resumed = trainer()
    _, saved = RunFolder.open(str(run.path))
    for change, message in WRONG_STATES:
        arrays, progress = load_arrays(run.state), json.loads(json.dumps(saved.progress))
        change(arrays, progress)
        with pytest.raises((ValueError, KeyError), match=message):
            resumed.restore(arrays, progress)
    with pytest.raises(ValueError, match="its progress is 7"):
        resumed.restore(load_arrays(run.state), 7)  # type: ignore[arg-type]
    resumed.restore(load_arrays(run.state), saved.progress)
    assert resumed.is_done


@pytest.mark.parametrize("part", ["model", "training", "data", "progress"])
@pytest.mark.parametrize("wrong", [7, "7", [7], None])
def test_a_state_whose_parts_are_no_objects_is_refused(
    part: str, wrong: Any, run: RunFolder, tmp_path: Path
) -> None:
    info = load_info(run.state)
    save_arrays(tmp_path / "state.npz", load_arrays(run.state), info | {part: wrong})
    with pytest.raises(InputError):
        folder, saved = RunFolder.open(str(tmp_path))
        folder.restore(trainer(), saved)


def test_neighbours_that_are_no_neighbours_are_refused(run: RunFolder) -> None:
    config = trainer().config
    graph = run.load_neighbours(IMAGES, config)
    info = {key: load_info(run.neighbours)[key] for key in ("kind", "made_from")}
    for bad in (graph + 24, graph[:5], graph.astype(np.float32), -graph - 1):
        save_arrays(run.neighbours, {"graph": mx.array(bad)}, info)
        with pytest.raises(InputError, match="damaged; remove it"):
            run.load_neighbours(IMAGES, config)
    run.neighbours.unlink()
    np.testing.assert_array_equal(run.load_neighbours(IMAGES, config), graph)


@pytest.mark.parametrize("options", [{}, {"pair_weight": 0}, {"clip_grad": 1.0}])
def test_a_run_that_diverges_says_which_term_did_where(options: dict[str, Any]) -> None:
    diverging = trainer(lr=1e30, **options)
    with pytest.raises(InputError, match=r"\w+ became \S+ in epoch 1, step \d of 3; lower --lr"):
        list(diverging.run())
    assert diverging.epoch == 0 and not diverging.history


def test_weights_that_are_not_finite_are_never_saved_over_good_ones(
    run: RunFolder, tmp_path: Path
) -> None:
    before = run.state.read_bytes(), run.model.read_bytes()
    spoilt = trainer()
    spoilt.model.update({"z_head": {"bias": spoilt.model.z_head.bias / 0}})
    with pytest.raises(InputError, match=r"z_head.bias became NaN or infinite in epoch 1, step 0"):
        run.save(spoilt, DatasetSpec("digits"), {})
    assert (run.state.read_bytes(), run.model.read_bytes()) == before
    with pytest.raises(InputError, match=r"\w+ became NaN or infinite in epoch 1, step 3"):
        spoilt.step = 3
        spoilt._finish_epoch()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_image_with_pixels_that_are_none_is_named(dtype: str, value: float) -> None:
    images = (IMAGES / 255).astype(dtype)
    images[7, 2, 2] = images[20] = value
    takers = (mg.GMVAEClusterer(3).fit, Model(build_model(CONFIG)).encode)
    for take in takers:
        with pytest.raises(ValueError, match="image 7 "):
            take(images)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_does_wrong_leaves_nothing_and_another_is_asked(
    fault: str, tmp_path: Path
) -> None:
    with soak_downloads.served() as address:
        bad = f"{address}/{fault.replace(' ', '%20')}"
        tries = [((f"{bad}/99/",), False), ((f"{bad}/98/", f"{address}/none/0/"), True)]
        tries += [((f"{bad}/1/",), True)] * (fault in soak_downloads.PASSES)
        for number, (mirrors, is_right) in enumerate(tries):
            assert not soak_downloads.problem_of(mirrors, tmp_path / str(number), is_right)


def test_a_download_goes_through_the_proxy_that_a_variable_names(tmp_path: Path) -> None:
    with soak_downloads.served() as address:
        assert not soak_downloads.by_proxy(address, tmp_path)


def test_nothing_in_a_name_runs_in_a_real_browser(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium to try the pages in (apt-get install chromium)")
    browser = Browser(tmp_path / "profile")
    name = "".join(soak_page.NAMES[:5])
    problems = [
        soak_page.problem_of(browser, page, name) for page in soak_page.write_pages(name, tmp_path)
    ]
    # And were a name taken for markup, the policy would not let it run.
    page = tmp_path / "explorer.html"
    page.write_text(page.read_text().replace("<main", f"<script>{soak_page.RUN}</script><main"))
    browser.open(page)
    assert browser.ask("typeof window.owned") == "undefined" and browser.errors
    browser.close()
    assert problems == ["", ""]


@pytest.mark.parametrize("own", [(2,), (2, 2)])
@pytest.mark.parametrize(("given", "fits"), [((2,), True), ((3, 2), True), ((0, 2), False)])
def test_random_keys_may_be_those_of_other_processes(
    own: tuple[int, ...], given: tuple[int, ...], fits: bool
) -> None:
    saved = {"random_key": mx.zeros(given, mx.uint32), "w": mx.zeros(3)}
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="random_key is"):
        require_like(saved, {"random_key": mx.zeros(own, mx.uint32), "w": mx.zeros(3)})
