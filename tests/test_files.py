"""Files that are written: whole or absent, and readable by whom the umask lets."""

import ast
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_gmvae.report import figures, plots, sheets, tables
from mlx_gmvae.system.files import PREFIX, atomic_write, commit, remove_stale, temporary

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_takes_its_place_with_the_rights_of_a_new_one(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "notes.txt"
    before = os.umask(umask)
    try:
        for text in ("first", "second"):
            with atomic_write(path) as written:
                assert written.parent == path.parent and written.suffix == ".txt"
                assert written.name.startswith(PREFIX)
                written.write_text(text)
            assert path.read_text() == text
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_half_way_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("kept")
    with pytest.raises(error), atomic_write(path) as written:
        written.write_text("half")
        raise error
    assert path.read_text() == "kept" and list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_named_after_what_was_written(tmp_path: Path) -> None:
    with temporary(tmp_path / "x.so") as written:
        written.write_bytes(b"123")
        commit(written, tmp_path / f"x-{written.stat().st_size}.so")
    assert [path.name for path in tmp_path.iterdir()] == ["x-3.so"]


def test_what_killed_processes_left_is_removed_but_not_what_is_being_written(
    tmp_path: Path,
) -> None:
    for name in (f"{PREFIX}0123456789ab.npz", "other"):
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "new.txt") as written:
        remove_stale(tmp_path)
        assert sorted(tmp_path.iterdir()) == [written, tmp_path / "other"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.txt", "other"]


def test_the_new_name_reaches_the_disk_after_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append(("folder" if is_folder else "file", (tmp_path / "a.txt").exists()))
        if is_folder:
            raise OSError("as file systems that know no such thing")

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "a.txt") as written:
        written.write_text("text")
    assert synced == [("file", False), ("folder", True)]
    with atomic_write(tmp_path / "one of many.txt", durable=False) as written:
        written.write_text("text")
    assert len(synced) == 2


FRAMES = [Image.new("P", (8, 8), shade) for shade in (0, 200)]
IMAGES = np.zeros((2, 8, 8, 1), np.uint8)
WRITERS = {
    "diagram.png": lambda path: plots.save_curves(path, [{"": {"": [1.0, 2.0]}}], "x"),
    "sheet.png": lambda path: sheets.save_sheet(path, "title", [sheets.Section("", IMAGES)]),
    "frame.png": lambda path: figures.save_progress_frame(path, list(IMAGES), "caption"),
    "latents.npy": lambda path: tables.write_array(path, IMAGES),
    "progress.gif": lambda path: figures.save_animation(path, [path.with_name("0"), path]),
}


@pytest.mark.draws
@pytest.mark.parametrize("name", WRITERS)
def test_an_interrupted_writer_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Within the writing, when some of the file is there already."""
    path = tmp_path / name
    FRAMES[0].save(tmp_path / "0", "PNG")
    FRAMES[1].save(path, "PNG")
    before = path.read_bytes()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        WRITERS[name](path)
    assert path.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"0", name}


MAKES_FILES = {
    "copy", "copy2", "copyfile", "exporter", "imsave", "save", "savefig", "save_safetensors",
    "savetxt", "savez", "savez_compressed", "tofile", "write_bytes", "write_text",
}  # fmt: skip
# Given a path of `atomic_write` or `temporary`, a file in memory, or a folder that goes again.
WRITE_ELSEWHERE = {
    "safetensors_models.save", "figures.as_png", "figures.as_jpeg", "downloads._fetch_one",
    "checkpoint.model_from_bytes", "distributed.quieten",
}  # fmt: skip
OWN_SAVERS = {"folder", "run", "seeds"}  # objects of ours whose `save` is looked at by itself


def test_every_file_is_written_through_atomic_write_or_temporary() -> None:
    found = {
        f"{path.stem}.{function.name}"
        for path in (ROOT / "mlx_gmvae").rglob("*.py")
        if path.stem != "files"
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for call in unprotected(function)
    }
    assert found - WRITE_ELSEWHERE == set()


def unprotected(function: ast.FunctionDef) -> Iterator[ast.Call]:
    """Calls that write a file, but to none that a `with atomic_write(...) as name` has named."""
    named = {"atomic_write", "temporary"}
    for block in ast.walk(function):
        for item in block.items if isinstance(block, ast.With) else []:
            if item.optional_vars and names_in(item.context_expr) & named:
                named |= names_in(item.optional_vars)
    for call in ast.walk(function):
        if isinstance(call, ast.Call) and writes_file(call) and not names_in(call) & named:
            yield call


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def writes_file(call: ast.Call) -> bool:
    """Whether a call makes a file, by the name of the function and, of open, by its mode."""
    name = getattr(call.func, "attr", "")
    if "open" in (name, getattr(call.func, "id", "")):
        modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes[-1:])
    owner = getattr(call.func, "value", None)
    takes_arguments = bool(call.args) or name in ("write_text", "write_bytes")
    is_array_copy = name == "copy" and getattr(owner, "id", "") != "shutil"
    is_own = getattr(owner, "attr", getattr(owner, "id", "")) in OWN_SAVERS
    return name in MAKES_FILES and takes_arguments and not is_array_copy and not is_own
