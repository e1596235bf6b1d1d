"""Check that each documented way to install brings exactly one backend of MLX.

    python benchmarks/installs.py

It asks pip what it would install on this machine, installs nothing, and takes a minute.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WAYS = [["-r", "requirements.txt"], [".[cpu]"], [".[cuda13]"], [".[cuda12]"]]


def main() -> None:
    wrong = 0
    for way in WAYS:
        packages = resolved(way)
        wrong += len(packages) != 2
        print(f"{'pip install ' + ' '.join(way):<36}{', '.join(packages)}")
    sys.exit(bool(wrong))


def resolved(way: list[str]) -> list[str]:
    """Return the names and versions of the MLX packages that pip would install."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--report", str(report), *way]
        subprocess.run(command, cwd=ROOT, check=True)
        found = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    names = [f"{each['name']} {each['version']}" for each in found]
    return sorted(name for name in names if name.startswith(("mlx ", "mlx-")))


if __name__ == "__main__":
    main()
