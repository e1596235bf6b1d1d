"""Where files are kept that can be made again, also where the home folder cannot be written."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mlx_gmvae.system import cache

import pytest


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, and a home that cannot be: its place is taken by a file."""
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "file/home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    cache._own_dir.cache_clear()
    yield tmp_path / "temporary"
    cache._own_dir.cache_clear()


def test_the_cache_of_a_home_that_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "not yet"))
    assert cache.cache_dir() == tmp_path / "not yet/.cache/mlx_gmvae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert cache.cache_dir() == tmp_path / "other/mlx_gmvae"
    assert not list(tmp_path.iterdir())  # made by whoever writes there


def test_without_a_home_it_is_a_private_folder_for_all_processes(temporary: Path) -> None:
    folder = cache.cache_dir()
    assert folder == temporary / f"mlx_gmvae-{os.getuid()}" == cache.cache_dir()
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700


def test_a_home_without_permission_counts_as_none(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/")  # as docker gives a --user that it does not know
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cache.cache_dir().parent == temporary


def test_a_cache_that_can_only_be_read_is_read(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "given/mlx_gmvae/mnist").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "given"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cache.cache_dir() == tmp_path / "given/mlx_gmvae"


@pytest.mark.parametrize("trap", ["link", "open to all", "file", "another user's"])
def test_what_somebody_else_put_in_its_place_is_not_used(
    temporary: Path, tmp_path: Path, trap: str
) -> None:
    expected = temporary / f"mlx_gmvae-{os.getuid()}"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        expected.symlink_to(tmp_path / "elsewhere")
    elif trap == "file":
        expected.touch()
    else:
        expected.mkdir(mode=0o700)
        if trap == "open to all":
            expected.chmod(0o777)
        elif os.geteuid():
            pytest.skip("only root can give a folder away")
        else:
            os.chown(expected, 1234, -1)
    folder = cache.cache_dir()
    assert folder != expected and folder.parent == temporary and folder == cache.cache_dir()
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700 and not folder.is_symlink()


def test_the_home_folder_is_left_out_of_what_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "anna"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))
    for place in (home, tmp_path / "link"):
        assert cache.without_home(str(place)) == "~"
        assert cache.without_home(f"{place}/photos") == "~/photos"
        assert cache.without_home(f"--dataset '{place}/my photos'") == "--dataset '~/my photos'"
        for other in (f"{place}s/photos", f"/mnt{place}/photos", f"{place}.old"):
            assert cache.without_home(other) == other
    monkeypatch.setenv("HOME", "/")
    assert cache.without_home("/data/photos") == "/data/photos"
