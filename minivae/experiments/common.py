"""What the experiments share."""

import numpy as np

from ..model import VAE
from ..training import train


def train_one_layer(data, *, seed, k, folder, progress, **settings):
    """A `Run` of the paper's one-layer model, float32, by the IWAE bound, resumed
    where ``folder`` holds it.
    """
    rng = np.random.default_rng(seed)
    model = VAE(784, rng=rng, x_mean=data.train_images.mean(axis=0))
    settings |= {"seed": seed, "folder": folder, "data": "mnist", "progress": progress}
    return train(model, data.train_images, "iwae", k, **settings)
