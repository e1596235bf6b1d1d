"""Model card in Markdown: the model, its training data, its scores and how to use it."""

import json
from pathlib import Path
from typing import Any

from ..formatting import SETS
from ..system.files import atomic_write

PICTURES = {
    "samples.png": "samples, one row per component",
    "latent.png": "the latent space",
    "curves.png": "training curves",
}


LIBRARY = "library_name: mlx_gmvae"


def is_card(path: Path) -> bool:
    """Return whether a README.md was written by `write_card`."""
    return LIBRARY in path.read_text(encoding="utf-8", errors="replace")


def write_card(
    path: Path,
    title: str,
    text: str,
    command: str,
    metrics: dict[str, Any],
    made_with: dict[str, Any],
    configuration: dict[str, Any],
) -> None:
    """Write a card next to a model.npz, with the pictures in its folder and groups of `metrics`.

    The "split" of each group names the images that it was computed on. `made_with` lists what must
    be the same to reproduce the weights.
    """
    lines = [
        "---",
        LIBRARY,
        "tags: [mlx, clustering, variational-autoencoder, gaussian-mixture, unsupervised]",
        "---",
        f"\n# {title}\n",
        text,
        f"\n```bash\n{command}\n```\n",
        "## Figures",
    ]
    for split, text in SETS.items():
        rows = [
            f"| {group}: {key} | {value:.5g} |"
            for group, values in metrics.items()
            if isinstance(values, dict) and values.get("split") == split
            for key, value in values.items()
            if isinstance(value, (int, float))
        ]
        if rows:
            lines += [f"\nOn {text}:\n", "| | |\n|---|---|", *rows]
    lines.append("\nLabels, if there are any, were not used in training.")
    shown = {name: text for name, text in PICTURES.items() if (path.parent / name).is_file()}
    lines += [f"\n![{text}]({name})" for name, text in shown.items()]
    lines += [
        "\n## Use\n",
        '```python\nimport mlx_gmvae as mg\n\nmodel = mg.load("model.npz")\n'
        "model.encode(images), model.reconstruct(images), model.sample(10)\n```\n",
        "## Reproducibility\n",
        "A training with the same values gives the same weights, bit for bit.\n",
        "| | |\n|---|---|",
        *(f"| {name} | {value} |" for name, value in made_with.items()),
        "\n## Configuration\n",
        f"```json\n{json.dumps(configuration, indent=1)}\n```",
    ]
    with atomic_write(path) as written:
        written.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
