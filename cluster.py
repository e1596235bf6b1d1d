"""Assign images to the clusters of a trained model and show the clusters.

python cluster.py --model pretrained/gmvae_mnist_K10_dims_0008.npz --split test
"""

import sys

from mlx_gmvae.cli.cluster import main

if __name__ == "__main__":
    sys.exit(main())
