"""Whole protocols in one word: arguments of `minivae.train`, and architectures."""

# The paper's protocol (Burda et al. 2016, section 5): 3^i epochs at 1e-3 * 10^(-i/7).
# Its epsilon of 1e-4 acted on gradients summed over a batch of 20; ours are means, for
# which the same step has 1e-4 / 20.
PRESETS = {
    "burda": {
        "batch": 20,
        "epsilon": 5e-6,
        "stages": [(3**i, 1e-3 * 10 ** (-i / 7)) for i in range(8)],
    },
    "short": {
        "batch": 20,
        "epsilon": 5e-6,
        "stages": [(3**i, 1e-3 * 10 ** (-i / 4)) for i in range(5)],
    },
    "fast": {
        "batch": 50,
        "epsilon": 5e-6,
        "epochs": 328,
        "learning_rate": 2e-3,
        "schedule": "cosine",
    },
}
# the paper's architectures, by the number of stochastic layers
ARCHITECTURES = {
    1: {"latent_dims": (50,), "hidden_dims": ((200, 200),)},
    2: {"latent_dims": (100, 50), "hidden_dims": ((200, 200), (100, 100))},
}
