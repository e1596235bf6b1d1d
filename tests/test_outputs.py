"""Output folders: lines that name what was written, and only outdated files of ours removed."""

from pathlib import Path

from mlx_gmvae.report.written_files import alike, files_named, names_in, remove_outdated, saved_line


def test_the_line_names_everything_once() -> None:
    folder = Path("out")
    assert saved_line(folder, ["a.csv"]) == "saved a.csv in out"
    names = ["a.csv", "b.json", *alike("c_*.png", 1200), *alike("d_*.png", 0)]
    assert saved_line(folder, names) == "saved a.csv, b.json and c_*.png (1,200) in out"


def test_folders_are_named_with_the_number_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "pictures/of").mkdir(parents=True)
    for name in ("pictures/a.png", "pictures/of/b.png", "seed_1.npz", "notes.txt"):
        (tmp_path / name).touch()
    assert names_in(tmp_path, ("seed_*", "pictures", "none")) == ["pictures/ (2)", "seed_1.npz"]


def test_a_file_written_anew_under_another_spelling_of_its_name_stays(tmp_path: Path) -> None:
    """A link stands in for a file system to which Bird.png and bird.png are one file."""
    earlier, old = tmp_path / "Bird.png", tmp_path / "cat.png"
    earlier.touch()
    old.touch()
    (tmp_path / "bird.png").hardlink_to(earlier)
    (tmp_path / "dog.png").mkdir()
    found = files_named(tmp_path, r"(Bird|cat|dog)\.png")
    assert len(found) == 3
    remove_outdated(found, [tmp_path / "bird.png"])
    assert earlier.exists() and not old.exists() and (tmp_path / "dog.png").is_dir()
    assert files_named(tmp_path / "none", ".*") == []
