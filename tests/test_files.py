"""Files that are written: whole or absent, and readable by whom the umask lets."""

import os
from pathlib import Path

from mlx_gmvae.device.files import PREFIX, put, remove_stale, temporary, whole

import pytest


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_takes_its_place_with_the_rights_of_a_new_one(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "notes.txt"
    before = os.umask(umask)
    try:
        for text in ("first", "second"):
            with whole(path) as written:
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
    with pytest.raises(error), whole(path) as written:
        written.write_text("half")
        raise error
    assert path.read_text() == "kept" and list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_named_after_what_was_written(tmp_path: Path) -> None:
    with temporary(tmp_path / "x.so") as written:
        written.write_bytes(b"123")
        put(written, tmp_path / f"x-{written.stat().st_size}.so")
    assert [path.name for path in tmp_path.iterdir()] == ["x-3.so"]


def test_what_killed_processes_left_is_removed_but_not_what_is_being_written(
    tmp_path: Path,
) -> None:
    for name in (f"{PREFIX}0123456789ab.npz", "other"):
        (tmp_path / name).touch()
    with whole(tmp_path / "new.txt") as written:
        remove_stale(tmp_path)
        assert sorted(tmp_path.iterdir()) == [written, tmp_path / "other"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.txt", "other"]
