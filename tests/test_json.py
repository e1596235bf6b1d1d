"""--json and --log_every: what other programs and log files read of a run."""

import json
import math
from pathlib import Path

import cluster
import generate
import reconstruct
import train

import pytest

pytestmark = pytest.mark.usefixtures("few_digits")

SMALL = "--dataset digits --arch mlp --hidden_dims 16 --latent_dims 2 --K 3 --cpu"


def test_lines_are_the_epochs_and_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([*SMALL.split(), "--epochs", "2", "--json", "--outdir", f"{tmp_path}/r"]) == 0
    out, err = capsys.readouterr()
    *epochs, result = map(json.loads, out.splitlines())
    assert [line["event"] for line in epochs] == ["epoch", "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert all(math.isfinite(line["loss"]) for line in epochs)
    metrics = json.loads((tmp_path / "r/metrics.json").read_text())
    assert result == {"event": "result", "folder": f"{tmp_path}/r", **metrics}
    assert "Epoch    2 | Loss" in err and "device: cpu" in err
    for script, folder in ((cluster, "c"), (reconstruct, "x")):
        options = f"--model {tmp_path}/r/model.npz --json --split test --outdir {tmp_path}/{folder}"
        assert script.main(options.split()) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["folder"] == f"{tmp_path}/{folder}"
        assert json.loads(line)["split"] == "test"
    drawn = f"--model {tmp_path}/r/model.npz --json --num 4 --outdir {tmp_path}/g"
    assert generate.main(drawn.split()) == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["images"] == 12 == len(list((tmp_path / "g").glob("cluster_*.png")))
    assert line["outfile"] == f"{tmp_path}/g/samples.png" and line["components"] == [0, 1, 2]
    assert train.main(["--json", "--K", "none"]) == 2
    assert capsys.readouterr().out == ""


def test_an_epoch_is_logged_every_so_many_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"{SMALL} --batchsize 100 --epochs 1 --log_every 1 --outdir {tmp_path}/r"
    assert train.main(options.split()) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1: ")]
    assert [line.split()[2] for line in lines] == ["1", "2"]
    assert all("of 2 steps | Loss" in line for line in lines)
    assert train.main(["--log_every", "0"]) == 2
    assert "--log_every is 0" in capsys.readouterr().err
