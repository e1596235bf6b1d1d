"""Figures that benchmarks make of what they measured; what they measure is not judged here."""

import importlib
import json
from pathlib import Path
from typing import Any

import page_tables
import pytest

throughput, soak = (importlib.import_module(name) for name in ("throughput", "soak"))


def test_speeds_are_compared_within_a_round() -> None:
    """The median of the ratios: a machine that is busy in one round is so for both rows."""
    speeds = {"ours": (100, 50, 30), "other": (50, 50, 10)}
    rounds = [
        {
            row: {"images_per_second": values[number], "images_per_cpu_second": 2, "device": "cpu"}
            for row, values in speeds.items()
        }
        for number in range(3)
    ]
    found = throughput.summary(rounds, list(speeds))
    assert [found[row]["images_per_second"] for row in speeds] == [50, 50]
    assert found["other"]["ours_over_row_clock"] == 2
    assert found["other"]["range_clock"] == [1, 3]
    assert found["ours"]["ours_over_row_clock"] == found["other"]["ours_over_row_cpu"] == 1
    assert found["other"]["rounds"] == 3


def test_a_fault_that_was_not_survived_fails_the_soak_and_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"fault": "cut", "tried": 3, "survived": 3},
        {"fault": "kill", "tried": 4, "survived": 3},
    ]

    def faults(args: Any) -> list[dict[str, Any]]:
        return rows

    page = tmp_path / "page.md"
    page.write_text("<!-- soak -->\n<!-- /soak -->\n")
    monkeypatch.setattr(soak, "parts", lambda: {"faults": faults})
    monkeypatch.setattr(soak, "KEPT", tmp_path / "soak.json")
    monkeypatch.setattr(soak, "SHOWN", page)
    monkeypatch.setattr(page_tables, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["soak.py", "faults"])
    assert soak.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 failed"
    assert json.loads((tmp_path / "soak.json").read_text())["faults"]["rows"] == rows
    assert "| kill | 4 | 3 |" in page.read_text() and "| cut | 3 | 3 |" in page.read_text()
    rows[1]["survived"] = 4
    assert soak.main() == 0
    assert "| kill | 4 | 4 |" in page.read_text()
