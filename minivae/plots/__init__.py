"""The pictures. Each function returns its Matplotlib ``Figure``, and writes a PNG only
if ``path`` says where. Pictures of images are drawn at ``image_shape``, (height, width)
or (height, width, channels); without it an image is taken to be a grey square.
"""

from .curves import (
    ABSCISSAS,
    active_units,
    bound_against_k,
    draw_evaluations,
    learning_curves,
    normalised_weights,
    signal_to_noise,
    small_multiples,
    units_over_epochs,
)
from .grids import (
    MOST_TILES,
    best_and_worst,
    draw_model,
    image_grid,
    interpolation,
    manifold,
    reconstructions,
    samples,
    traversal,
)
from .latents import aggregated_posterior, draw_latents, latent_scatter
from .notebook import as_html

__all__ = [
    "ABSCISSAS",
    "MOST_TILES",
    "active_units",
    "aggregated_posterior",
    "as_html",
    "best_and_worst",
    "bound_against_k",
    "draw_evaluations",
    "draw_latents",
    "draw_model",
    "image_grid",
    "interpolation",
    "latent_scatter",
    "learning_curves",
    "manifold",
    "normalised_weights",
    "reconstructions",
    "samples",
    "signal_to_noise",
    "small_multiples",
    "traversal",
    "units_over_epochs",
]
