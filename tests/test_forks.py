"""A process that forks after MLX was used says so in one line, instead of hanging."""

import os
import subprocess
import sys

from conftest import ROOT

MODEL = ROOT / "pretrained" / "gmvae_digits_K10_dims_0008.npz"
START = """
import os, sys
import mlx_gmvae as mg, numpy as np
import mlx.core as mx
images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
options = {"model_options": {"arch": "mlp", "hidden_dims": 8}, "train_options": {"heads": 2}}
estimator = mg.GMVAEClusterer(2, max_iter=1, random_state=0, **options)
def tried(*functions):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)
    for function in functions:
        try:
            function()
            print("done", flush=True)
        except ValueError as error:
            print(error, flush=True)
    sys.exit(0)
"""


def test_it_trains_before_and_refuses_in_one_line_after() -> None:
    code = f"""
lazy = mx.ones(3) + 1
tried(lambda: estimator.fit(images).predict(images))
mx.eval(lazy)  # MLX is used without this package
tried(lambda: estimator.fit(images))
model = mg.load({str(MODEL)!r})
picture = np.zeros((1, 28, 28), np.uint8)
from mlx_gmvae.device.backend import select_device
tried(lambda: estimator.fit(images), lambda: model.encode(picture), lambda: model.sample(2),
      lambda: model.elbo(picture), lambda: mg.load({str(MODEL)!r}), select_device,
      lambda: mg.train(model.network, picture.repeat(4, axis=0)))
"""
    environment = {**os.environ, "MLX_GMVAE_STREAMS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", START + code],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first == "done" and len(others) == 8
    for line in others:
        assert "forked after MLX had been used" in line and "spawn or loky" in line, line
