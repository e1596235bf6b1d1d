"""Images along a path and over a plane of the latent space."""

import numpy as np

from ..errors import InputError
from ..models import LatentVariableModel, MixtureModel
from .scores import decode

EDGE = 0.02  # of the probability, left out on each side of the plane
QUANTILE_SAMPLES = 20_000
SAMPLES_TO_CHOOSE_FROM = 1000


def interpolation(model: LatentVariableModel, first: int, last: int, num: int) -> np.ndarray:
    """Return `num` images on the straight line between two latents, (num, H, W, C).

    The line goes from the centre of component `first` to that of component `last`. For a model
    without components, they are numbers among 1,000 draws from the prior. Raises InputError if
    there is no such number.
    """
    if isinstance(model, MixtureModel):
        ends, what = model.component_latents(), "component"
    else:
        ends, what = model.sample_latent(SAMPLES_TO_CHOOSE_FROM), "sample"
    for number in (first, last):
        if not 0 <= number < len(ends):
            raise InputError(f"there is no {what} {number}; choose from 0 to {len(ends) - 1}")
    share = np.linspace(0, 1, num, dtype=np.float32)[:, None]
    start, end = np.array(ends[first]), np.array(ends[last])
    return decode(model, (1 - share) * start + share * end)


def manifold(model: LatentVariableModel, side: int) -> np.ndarray:
    """Return a grid of side x side images over a 2-D latent space, (side^2, H, W, C).

    The grid is even in probability: each axis runs over the quantiles of the prior, which for
    N(0, I) is the inverse normal CDF (Kingma & Welling 2013, appendix A). The first axis runs
    to the right, the second upwards. Raises InputError unless latent_dims is 2.
    """
    if model.config.latent_dims != 2:
        raise InputError(
            f"--manifold needs a model with latent_dims 2, this one has {model.config.latent_dims}"
        )
    shares = np.linspace(EDGE, 1 - EDGE, side)
    if isinstance(model, MixtureModel):
        draws = np.array(model.sample_latent(QUANTILE_SAMPLES))
        columns, rows = np.quantile(draws, shares, axis=0).T
    else:
        from scipy.stats import norm

        columns = rows = norm.ppf(shares)
    grid = np.stack(np.meshgrid(columns, rows[::-1]), axis=-1).reshape(-1, 2)
    return decode(model, grid)
