"""API reference of all public names, made from their docstrings by pdoc.

python benchmarks/reference.py FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import mlx_gmvae

from pdoc import pdoc, render

if __name__ == "__main__":
    for name in mlx_gmvae.__all__:  # pdoc does not find names that are imported on first use
        vars(mlx_gmvae)[name] = getattr(mlx_gmvae, name)
    folder = Path(sys.argv[1])
    render.configure(docformat="numpy", show_source=False)
    pdoc("mlx_gmvae", output_directory=folder)
    print(f"written to {folder}/mlx_gmvae.html")
