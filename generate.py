"""Generate images from the prior of a trained model or from one of its components.

python generate.py --model pretrained/gmvae_mnist_K10_dims_0008.npz --outfile samples.png
"""

import sys

from mlx_gmvae.cli.generate import main

if __name__ == "__main__":
    sys.exit(main())
