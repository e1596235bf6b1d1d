"""One folder of images per cluster, as copies or hard links of the original files."""

import os
import shutil
from pathlib import Path

from ..data.batches import with_progress
from ..data.splits import Dataset
from ..errors import InputError
from ..system.files import atomic_write
from . import figures, tables
from .assignments import UNASSIGNED, Assignments

LONGEST_NAME = 255  # bytes, the limit of file systems
METADATA = "metadata.csv"


def prepare(dataset: Dataset, outdir: Path, hard_links: bool = False) -> None:
    """Create the folder to sort into, before any slow step.

    Raises InputError if `outdir` is not empty or lies within the images' folder, or if it cannot
    hold hard links to them.
    """
    if hard_links and not dataset.files:
        raise InputError("--hard_links needs a folder of image files")
    dataset.require_outside(outdir, "--sort_into")
    if outdir.exists() and (not outdir.is_dir() or any(outdir.iterdir())):
        raise InputError(f"{outdir} is not an empty folder; give --sort_into a new folder")
    is_new = not outdir.exists()
    outdir.mkdir(parents=True, exist_ok=True)
    if not hard_links:
        return
    original, trial = dataset.files[dataset.index[0]], outdir / ".link"
    try:  # some file systems have no hard links
        os.link(original, trial)
    except OSError as error:
        if is_new:
            outdir.rmdir()
        raise InputError(
            f"{outdir} cannot hold hard links to {original} ({error.strerror}); leave out "
            "--hard_links to copy the images"
        ) from None
    trial.unlink()


def sort_into(found: Assignments, outdir: Path, hard_links: bool = False) -> None:
    """Copy every image file, or link it, into the folder of its cluster in `outdir`.

    Unassigned images have the folder `unassigned`. Images from arrays are written as PNG. The
    folders have the layout of torchvision's ImageFolder, and with metadata.csv Hugging Face's
    datasets can load them: `load_dataset("imagefolder", data_dir=...)`.
    """
    dataset = found.dataset
    unassigned = [] if found.is_assigned.all() else [UNASSIGNED]
    for cluster in [*range(found.responsibilities.shape[1]), *unassigned]:
        (outdir / found.name(cluster)).mkdir(parents=True, exist_ok=True)
    clusters, copies = found.clusters, []
    for row in with_progress(range(len(dataset)), "sorting"):
        index, cluster = dataset.index[row], clusters[row]
        folder = outdir / found.name(cluster)
        if not dataset.files:
            copies.append(folder / f"{index:06d}.png")
            figures.save_image(copies[-1], dataset.images[row], durable=False)
            continue
        original = Path(dataset.files[index])
        # Files in different folders may have the same name, so names start with the index.
        copy = folder / f"{index:06d}_{original.name}"
        if len(os.fsencode(copy.name)) > LONGEST_NAME:
            copy = folder / f"{index:06d}{original.suffix}"
        copies.append(copy)
        if hard_links:
            os.link(original, copy)
        else:
            with atomic_write(copy, durable=False) as written:
                shutil.copy2(original, written)
    columns = {"file_name": [copy.relative_to(outdir).as_posix() for copy in copies]}
    tables.write_columns(outdir / METADATA, columns | found.columns())
