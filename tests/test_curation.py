"""Names, merges and moves: on the page with mouse and keys, in its file, in what scripts write."""

import csv
import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cluster
from mlx_gmvae.data.splits import Dataset, Splits
from mlx_gmvae.errors import InputError
from mlx_gmvae.report import curation, model_explorer
from mlx_gmvae.report.assignments import Assignments
from mlx_gmvae.report.curation import Curation, Group

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT, without_drawing

MODEL = f"--model {ROOT}/pretrained/gmvae_digits_K10_dims_0008.npz"
DECIDED = Curation(10, {3: "threes", 4: "../ones\u0000"}, ((1, 4),), {"5": 3, "8": None})


@pytest.fixture(scope="module")
def few(digits: Splits, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Flags that name the model and fifty digits, five of each."""
    path = tmp_path_factory.mktemp("few") / "few.npz"
    labels = digits.train.labels
    assert labels is not None
    rows = np.concatenate([np.flatnonzero(labels == label)[:5] for label in range(10)])
    np.savez(path, images=digits.train.images[np.sort(rows)])
    return f"--dataset {path} --image_size 28 28 --split all"


@pytest.fixture(scope="module")
def plain(few: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cluster.py writes of them with `--explorer`, where nothing is decided yet."""
    folder = tmp_path_factory.mktemp("plain") / "out"
    with without_drawing(), patch.object(model_explorer, "tsne", lambda z: z[:, :2]):
        assert cluster.main(f"{MODEL} {few} --explorer --outdir {folder}".split()) == 0
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def written(folder: Path, content: Any) -> Path:
    path = folder / "curation.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_merged_clusters_are_added_and_moved_images_are_where_they_were_put() -> None:
    decided = Curation(4, {2: "two", 3: "three"}, ((1, 3),), {"a": 3, "b": None}, {"b": 7})
    three = (Group(0, "", (0,)), Group(1, "three", (1, 3)), Group(2, "two", (2,)))
    assert decided.groups() == three
    moves = decided.moves(["a", "b", "c"], lambda row: 7)
    assert moves == {0: 3, 1: None}
    assert decided.moves(["a", "b"], lambda row: 8) == {0: 3}  # other pixels
    q = np.array([[0.1, 0.2, 0.3, 0.4]] * 3)
    expected = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0.1, 0.6, 0.3, 0]])
    found, groups = decided.applied(q, moves)
    np.testing.assert_allclose(found, expected)
    assert groups == (*three, Group(None, "none", ()))


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    moved, checksums = {"a b.png": 3, "ü": None}, {"ü": 2**32 - 1}
    decided = Curation(10, {3: "threes"}, ((1, 4), (2, 5, 6)), moved, checksums)
    assert curation.read(written(tmp_path, decided.to_json()), 10) == decided


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is not a curation; the explorer's Download button writes one"),
        ("[" * 100_000, "is not a curation"),
        ([], "is not a curation"),
        ({"curation": 2, "clusters": 10}, "is not a curation"),
        ({"curation": 1, "clusters": 12}, "is for 12 clusters, but the model has 10"),
        ({"names": {"10": "x"}}, "has cluster '10'; clusters are 0 to 9"),
        ({"names": {"1": 5}}, "the name of cluster 1 must be a string of at most 80 characters"),
        ({"names": {"1": "x" * 81}}, "at most 80 characters"),
        ({"names": []}, "names must be an object"),
        ({"names": {"9" * 5000: "x"}}, "clusters are 0 to 9"),
        ({"merged": [[1, 1]]}, "merged must contain lists of two clusters or more"),
        ({"merged": [5]}, "merged must contain lists of two clusters or more"),
        ({"moved": [{"image": "5", "to": 1, "crc32": "x"}]}, "the crc32 of '5' must be a number"),
        ({"merged": [[1]]}, "merged must contain lists of two clusters or more"),
        ({"merged": [[1, 2], [2, 3]]}, "a cluster can be merged only once"),
        ({"merged": [[1, True]]}, "has cluster True"),
        ({"moved": [{"image": 5}]}, "moved must contain objects with image and to"),
        ({"moved": [{"image": "5", "to": -1}]}, "has cluster -1"),
    ],
)
def test_any_other_file_is_one_line(content: Any, problem: str, tmp_path: Path) -> None:
    if isinstance(content, dict) and "curation" not in content:
        content = {"curation": 1, "clusters": 10} | content
    with pytest.raises(InputError, match=re.escape(problem)):
        curation.read(written(tmp_path, content), 10)


def test_many_moved_images_are_read_in_a_moment(tmp_path: Path) -> None:
    """Ten thousand times ten thousand comparisons would take a minute."""
    moved = [{"image": f"{number}.png", "to": number % 10} for number in range(10**5)]
    started = time.monotonic()
    path = written(tmp_path, {"curation": 1, "clusters": 10, "moved": moved})
    assert len(curation.read(path, 10).moved) == 10**5
    assert time.monotonic() - started < 20


def test_tables_sheets_and_folders_have_the_names(
    few: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"{MODEL} {few} --outdir {tmp_path}/out"
    shutil.copytree(plain, tmp_path / "out")
    undecided = rows_of(plain / "assignments.csv")
    to_threes, to_none = (undecided[row]["index"] for row in (5, 8))
    decided = dataclasses.replace(DECIDED, moved={to_threes: 3, to_none: None})
    path = written(tmp_path, decided.to_json())
    capsys.readouterr()
    assert cluster.main(f"{options} --curation {path} --sort_into {tmp_path}/sorted".split()) == 0
    assert "2 names, 10 clusters merged into 9, 2 of 2 moved images found" in (
        capsys.readouterr().out
    )
    rows = rows_of(tmp_path / "out/assignments.csv")
    for before, after in zip(undecided, rows, strict=True):
        expected = {"4": "1"}.get(before["cluster"], before["cluster"])
        expected = {to_threes: "3", to_none: "none"}.get(after["index"], expected)
        assert after["cluster"] == expected, after
    assert {row["name"] for row in rows} == {"", "threes", "../ones", "none"}
    pictures = {each.name for each in (tmp_path / "out").glob("cluster_*.png")}
    assert {"cluster_01_.._ones.png", "cluster_03_threes.png", "cluster_none.png"} < pictures
    assert "cluster_04.png" not in pictures  # of the call before
    assert (tmp_path / f"sorted/cluster_none/{int(to_none):06}.png").is_file()
    assert "threes: " in (tmp_path / "out/summary.html").read_text()
    # Without it again, nothing is left of the names.
    assert cluster.main(options.split()) == 0
    assert not list((tmp_path / "out").glob("cluster_*_*.png"))
    assert not (tmp_path / "out/cluster_none.png").exists()


def test_positions_in_two_arrays_are_told_apart(tmp_path: Path) -> None:
    """The fifth training image is another one than the fifth test image."""
    images = np.zeros((6, 4, 4, 1), np.uint8)
    whole = Dataset("two", images, None, np.tile(np.arange(3), 2))
    q = np.tile([[1.0, 0.0]], (6, 1))
    parts = np.repeat(["train", "test"], 3)
    found = Assignments(whole, q, parts=parts)
    assert found.image_names == [
        f"{part}/{number}" for part in ("train", "test") for number in "012"
    ]
    assert found.curated(Curation(2, moved={"test/1": 1})).clusters.tolist() == [0, 0, 0, 0, 1, 0]
    one = Assignments(whole.take(np.arange(3)), q[:3], split="test")
    assert one.image_names == ["test/0", "test/1", "test/2"]


def test_an_image_of_the_same_name_in_another_set_stays(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 256, (12, 8, 8), np.uint8))
    found = f"--model {digits_run}/model.npz --outdir {tmp_path}/out --dataset {tmp_path}"
    assert cluster.main(f"{found}/one.npy --explorer".split()) == 0
    page = (tmp_path / "out/explorer.html").read_text()
    (content,) = re.findall(r"^const data = (.*);$", page, flags=re.MULTILINE)
    checksum = json.loads(content)["curation"]["checksums"][3]
    path = written(tmp_path, Curation(10, moved={"3": None}, checksums={"3": checksum}).to_json())
    for name, here in (("one", 1), ("other", 0)):
        capsys.readouterr()
        assert cluster.main(f"{found}/{name}.npy --curation {path}".split()) == 0
        out = capsys.readouterr().out
        assert f"{here} of 1 moved images found" in out
        assert ("1 with the same name but other pixels" in out) == (not here)
        rows = rows_of(tmp_path / "out/assignments.csv")
        assert [row["index"] for row in rows if row["cluster"] == "none"] == ["3"] * here


def test_it_is_refused_where_it_means_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, DECIDED.to_json())
    for options, problem in [
        (f"{MODEL} --curation {path} --labelled 3", "both name the clusters"),
        (f"{MODEL} --curation {tmp_path}/none.json", "cannot be read"),
        (
            f"--model {ROOT}/pretrained/vae_mnist_mlp_dims_0002.npz --curation {path}",
            "--curation needs a model with components, not a vae",
        ),
    ]:
        assert cluster.main(f"{options} --outdir {tmp_path}/out".split()) == 2
        assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def page(plain: Path, tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    browser = Browser(tmp_path / "profile", 1200, 900)
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.open(plain / "explorer.html")
    yield browser
    browser.close()


def press(page: Browser, name: str) -> None:
    """Click a button as a hand does."""
    x, y = page.ask(
        f"(e => {{ e.scrollIntoView(); const b = e.getBoundingClientRect();"
        f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.getElementById('{name}'))"
    )
    page.click(x, y)


def test_the_page_curates(page: Browser, few: str, plain: Path, tmp_path: Path) -> None:
    def choose(name: str, value: str) -> None:
        page.ask(
            f"(e => {{ e.value = '{value}'; e.dispatchEvent(new Event('change')); }})"
            f"(document.getElementById('{name}'))"
        )

    def kinds() -> set[str]:
        return set(page.ask("data.columns.cluster"))

    assert len(kinds()) == 10
    # A name is typed, with the keyboard alone.
    choose("which", "3")
    page.ask("document.getElementById('named').focus()")
    page.send("Input.insertText", text="<b>threes</b>")
    page.key("Enter")
    assert "<b>threes</b>" in kinds() and page.ask("document.querySelector('b b') === null")
    choose("other", "4")
    press(page, "merge")
    assert len(kinds()) == 9 and page.ask("state.merged") == [[3, 4]]
    press(page, "undo")
    assert len(kinds()) == 10
    # Shift and a click marks an image, shift and a drag all in a loop, m the one in view.
    x, y = page.ask("at[7]")
    page.mouse("mouseMoved", x, y)
    for kind in ("mousePressed", "mouseReleased"):
        page.mouse(kind, x, y, button="left", buttons=1, clickCount=1, modifiers=8)
    assert page.ask("[...marked]") == [7]
    page.key("m")
    assert page.ask("[...marked]") == []
    corners = page.ask(
        "(() => { const xs = at.map(p => p[0]), ys = at.map(p => p[1]); return ["
        "Math.min(...xs) - 5, Math.min(...ys) - 5, Math.max(...xs) + 5, Math.max(...ys) + 5]; })()"
    )
    left, top, right, bottom = corners
    page.mouse("mouseMoved", left, top)
    page.mouse("mousePressed", left, top, button="left", buttons=1, clickCount=1, modifiers=8)
    for x, y in [(right, top), (right, bottom), (left, bottom), (left, top + 1)]:
        page.mouse("mouseMoved", x, y, button="left", buttons=1, modifiers=8)
    page.mouse("mouseReleased", left, top + 1, button="left", modifiers=8)
    assert page.ask("marked.size") == page.ask("points.length")
    press(page, "unmark")
    # The images of a cluster: the least certain first; a click marks, Escape goes back.
    press(page, "see")
    shown = page.ask("[...document.querySelectorAll('.cell')].map(c => +c.dataset.image)")
    sure = page.ask("data.columns.confidence")
    assert shown == sorted(shown, key=lambda image: sure[image])
    assert {page.ask(f"data.columns.cluster[{image}]") for image in shown} == {"<b>threes</b>"}
    page.key("ArrowRight")
    box = "(b => [b.x + 9, b.y + 9])(document.querySelectorAll('.cell')[1].getBoundingClientRect())"
    page.click(*page.ask(box))
    page.key("Escape")
    assert page.ask("[...marked]") == [shown[1]]
    choose("to", "")
    press(page, "move")
    assert page.ask(f"data.columns.cluster[{shown[1]}]") == "none"
    # What is decided outlives a reload, and comes down as a file that the script takes.
    page.open(plain / "explorer.html")
    assert page.ask(f"data.columns.cluster[{shown[1]}]") == "none"
    press(page, "download")
    path = tmp_path / "curation.json"
    for _ in range(100):
        if path.exists():
            break
        time.sleep(0.05)
    decided = curation.read(path, 10)
    name = page.ask(f"data.names[{shown[1]}]")
    assert decided == Curation(10, {3: "<b>threes</b>"}, (), {name: None}, decided.checksums)
    assert decided.checksums == {name: page.ask(f"data.curation.checksums[{shown[1]}]")}
    assert cluster.main(f"{MODEL} {few} --outdir {tmp_path}/out --curation {path}".split()) == 0
    assert rows_of(tmp_path / "out/assignments.csv")[shown[1]]["cluster"] == "none"
    assert page.errors == []
    # Another model of the same set has a page of its own, where nothing is decided.
    other = f"--model {ROOT}/pretrained/gmvae_mnist_K10_dims_0008.npz {few}"
    assert cluster.main(f"{other} --explorer --outdir {tmp_path}/other".split()) == 0
    page.open(tmp_path / "other/explorer.html")
    assert page.ask("state") == {"names": {}, "merged": [], "moved": {}}


def test_a_phone_shows_it_and_every_control_has_a_name(page: Browser) -> None:
    page.send(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=740,
        deviceScaleFactor=2,
        mobile=True,
    )
    assert page.ask("document.documentElement.scrollWidth") <= 360
    unnamed = page.ask(
        "[...document.querySelectorAll('#curate select, #curate input, #curate button')]"
        ".filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()).length"
    )
    assert unnamed == 0
    press(page, "see")
    assert page.ask("getComputedStyle(document.getElementById('contact')).display") == "flex"
    assert page.ask("document.querySelectorAll('.cell').length") > 0
    assert page.ask("document.documentElement.scrollWidth") <= 360
