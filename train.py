"""Train a VAE or a Gaussian-mixture VAE on unlabelled images.

python train.py --latent_dims 8 --K 10
"""

import sys

from mlx_gmvae.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
