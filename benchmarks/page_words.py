"""Titles of rows and columns in the tables of README.md and docs/."""

import re
from collections.abc import Callable

# Sets of the comparison with other packages, and our runs on them.
ALTERNATIVES = {
    "digits": "digits, K=10",
    "MNIST 2,000": "MNIST 2,000",
    "letters": "letters, K=10",
    "1,000 photos": "1,000 photos, K=10, EfficientNet-Lite0",
}
# Tables of the clustering benchmark: rows by the experiment's name, in order.
CLUSTERING = {
    "main": {
        "MNIST, K=10": "MNIST, K = 10",
        "MNIST long-tailed, K=10": "long-tailed MNIST (class c keeps 0.1^(c/9) of its images)",
        "MNIST 2,000": "MNIST, 2,000 images, K = 10, a draw for each seed",
        "MNIST 2,000, 16x16": "MNIST, 2,000 images of 16x16, K = 10, a draw for each seed",
        "MNIST 1,000": "MNIST, 1,000 images, K = 10, a draw for each seed",
        "MNIST 300": "MNIST, 300 images, K = 10, a draw for each seed",
        "digits, K=10": "digits (8x8), K = 10",
        "digits 300": "300 digits (8x8), K = 10",
        "letters, K=10": "letters K to T of 2,001 typefaces, K = 10, `--latent_dims 16`",
        "letters in their frame": "letters, cropped and stretched to the frame, a tenth inverted",
        "letters 10:1": "letters, class c keeps 0.1^(c/9) of its images",
        "photos, K=10": "12,000 photographs (10 classes), K = 10, `--latent_dims 32` (44 epochs)",
        "photos, K=10, EfficientNet-Lite0": (
            "12,000 photographs, `--features` of EfficientNet-Lite0"
        ),
        "1,000 photos, K=10, EfficientNet-Lite0": (
            "1,000 photographs, K = 10, `--features` of EfficientNet-Lite0, a draw for each seed"
        ),
    },
    "number": {
        "digits, K auto": "digits, `--K auto`",
        "letters, K auto": "letters, `--K auto`",
        "MNIST 2,000, K auto": "MNIST, 2,000 images, `--K auto`, a draw for each seed",
        "MNIST 2,000, 16x16, K auto": (
            "MNIST, 2,000 images of 16x16, `--K auto`, a draw for each seed"
        ),
        "digits, K=16": "digits, K = 16",
        "digits, K=16, free balance": "digits, K = 16, `--balance free`",
    },
    "ablations": {
        "digits, K=10": "defaults",
        "digits, plain ELBO": "ELBO alone (`--pair_weight 0`)",
        "digits, one head": "one head (`--heads 1`)",
        "digits, uniform": "no over-clustering (`--balance uniform`)",
        "digits, no neighbours": "no neighbours (`--neighbours 0`)",
        "digits, neighbours by pixels": "neighbours by pixels (`--descriptor pixels`)",
        "digits, no augmentation": "no augmentation (`--augment none`)",
        "digits, affine": "without strokes (`--augment affine`)",
    },
}
EXPERIMENTS = {name: title for rows in CLUSTERING.values() for name, title in rows.items()}
BASELINES = {  # data sets, and the experiment that each is compared with
    "MNIST": "MNIST, K=10",
    "MNIST long-tailed": "MNIST long-tailed, K=10",
    "letters": "letters, K=10",
    "digits": "digits, K=10",
    "photos": "photos, K=10",
}
ANOMALY_SCORES = (
    "deviance", "importance", "elbo", "MSE", "1 - SSIM", "likelihood ratio", "typicality",
    "typicality of the deviance", "input complexity",
)  # fmt: skip
MAIN_SCORES = 5  # the first of them
NAMES = {
    "MNIST long-tailed": "long-tailed MNIST",
    "photos": "photographs",
    "digits, as a table": "digits (64 columns)",
}
METHODS = ("k-means", "Gaussian mixture", "spectral")
WORKLOADS = {
    "VAE conv, 64x64x1, batch 128": "VAE 64x64",
    "GMVAE conv, 28x28x1, batch 256": "GMVAE 28x28",
    "GMVAE mlp, 28x28x1, batch 256": "GMVAE 28x28, `mlp`",
    "VAE conv, 256x256x3, batch 16": "VAE 256x256, colour",
}
ROWS = {
    "ours": "mlx_gmvae",
    "plain MLX, OpenBLAS": "plain MLX (strided and upsampling convolutions), OpenBLAS",
    "plain MLX, wheel BLAS": "plain MLX, the BLAS of MLX's Linux wheel",
    "PyTorch": "PyTorch",
    "PyTorch, channels last": "PyTorch, channels last",
    "PyTorch, torch.compile": "PyTorch, `torch.compile`",
    "PyTorch, OpenBLAS": "PyTorch, OpenBLAS preloaded",
}
PEERS = {
    "ours, as many layers": "mlx_gmvae, one hidden layer, constant learning rate",
    "ours, two layers": "mlx_gmvae, two hidden layers, constant learning rate",
    "ours, default": "mlx_gmvae, two hidden layers, cosine schedule (default)",
}
DECODED = {"frey": "Frey faces", "photos": "photographs (32x32)", "crops": "crops (128x128)"}
ANOMALY_CASES = {
    "digits among letters": "trained on letters, anomalies: digits",
    "letters among digits": "trained on digits, anomalies: letters",
    "photographs": "trained on one class of photographs, anomalies: the other nine",
}
SERVER_FAULTS = {
    "cut": "closes the connection early",
    "cut without a length": "closes early, no Content-Length",
    "stalls at once": "stalls before it answers",
    "stalls half way": "stalls in mid-transfer",
    "trickles": "sends one byte at a time",
    "resets at once": "resets the connection at once",
    "resets half way": "resets in mid-transfer",
    "redirects to a file": "redirects to a file:// address",
    "a page of HTML": "sends an HTML page",
    "404": "answers with status 404",
    "500": "answers with status 500",
    "nothing": "sends an empty body",
    "one byte wrong": "sends one wrong byte",
    "more than there is": "sends one byte too many",
    "endless": "sends an endless body",
    "a length that is none": "sends a Content-Length that is not a number",
    "a negative length": "sends a negative Content-Length",
    "no HTTP": "does not speak HTTP",
    "headers without end": "sends thousands of headers",
}
# Words of the soak test and what stands for them, in the order in which they are replaced.
FAULTS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"^a server: (.*)": lambda found: "server " + SERVER_FAULTS.get(found[1], found[1]),
    "^two processes that download at once": "two processes download the same file",
    "^names that want to be markup, in pages": "file and class names with HTML or scripts in them",
    "^(mutated|fuzzed) sets": r"\1 data sets",
    "^(mutated|fuzzed) pictures, in a folder": r"\1 images, in a folder",
    "^(mutated|fuzzed) pictures": r"\1 images",
    "^rates at": "learning rates at",
    "^odd sets, trained on and looked at": "degenerate data sets: training and evaluation",
    "^killed: one of two, or (.*)": r"one of two processes, or `\1`, killed",
    "^killed: photographs": "killed and resumed: a folder of photographs",
    "^killed: ": "killed and resumed: ",
    "^the same seed twice": "two trainings with the same seed: identical weights",
    "^full disk: photographs": "full disk: a folder of photographs",
    "megabytes": "MB of memory",
    "descriptors": "open files",
    "^leaks over ([0-9,]+) steps": r"leaks over \1 training steps",
    "^memory of ": "announced memory within 30 %: ",
}
