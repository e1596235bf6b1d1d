"""CSV files for spreadsheets."""

import csv
from pathlib import Path

from mlx_gmvae.report.tables import write_columns


def test_names_of_any_letters_are_read_by_spreadsheets_and_programs(tmp_path: Path) -> None:
    for name, mark in (("plain", b""), ("Größe, été", b"\xef\xbb\xbf")):
        write_columns(tmp_path / "t.csv", {"file": [name, "b"], "x": [1, 2]})
        assert (tmp_path / "t.csv").read_bytes().startswith(mark + b"file,x")
        with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows == [{"file": name, "x": "1"}, {"file": "b", "x": "2"}]
