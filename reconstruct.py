"""Reconstruct images with a trained model and measure the reconstruction error.

python reconstruct.py --model pretrained/vae_mnist_filters_0064_dims_0008.npz --rec_testdata
"""

import sys

from mlx_gmvae.cli.reconstruct import main

if __name__ == "__main__":
    sys.exit(main())
