"""A model card: what a model is, what it was trained on, how well, and how to use it; Markdown."""

import json
from pathlib import Path
from typing import Any

from ..formatting import SETS
from ..system.files import atomic_write

PICTURES = {
    "samples.png": "samples, a row per component",
    "latent.png": "the latent space",
    "curves.png": "the training",
}


LIBRARY = "library_name: mlx_gmvae"


def is_card(path: Path) -> bool:
    """Whether a README.md is one that `write_card` has written."""
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
    """Write a card beside a model.npz, with the pictures that lie there and `metrics` in groups.

    The groups say by "split" which images they are of.
    `made_with` names what has to be the same for the same weights to come out.
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
            lines += [f"\nOf {text}:\n", "| | |\n|---|---|", *rows]
    lines.append("\nIf the images have labels, training never saw them.")
    shown = {name: text for name, text in PICTURES.items() if (path.parent / name).is_file()}
    lines += [f"\n![{text}]({name})" for name, text in shown.items()]
    lines += [
        "\n## Use\n",
        '```python\nimport mlx_gmvae as mg\n\nmodel = mg.load("model.npz")\n'
        "model.encode(images), model.reconstruct(images), model.sample(10)\n```\n",
        "## Made with\n",
        "With the same of all this the same weights come out, bit for bit.\n",
        "| | |\n|---|---|",
        *(f"| {name} | {value} |" for name, value in made_with.items()),
        "\n## Configuration\n",
        f"```json\n{json.dumps(configuration, indent=1)}\n```",
    ]
    with atomic_write(path) as written:
        written.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
