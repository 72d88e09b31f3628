"""Variational and importance weighted autoencoders from nothing but NumPy and Numba.

Every backward pass is written by hand, beside its forward, and derived in the numbered
chapters of ``derivations/``, whose equations the code cites by number.

Sizes      B images in a batch, K importance samples (the papers' k), D visible
           units, H hidden units, L latent units; R = B * K rows, of which row r is
           sample r % K of image r // K
Symbols    x (B, D); eps, z (B, K, L); mu, log_sigma (B, L); log_w (B, K)
           theta: generative (decoder) parameters; phi: recognition (encoder) ones
           dz means d(objective)/dz. The objective is maximised, and only the optimiser
           knows the sign.

Data flows one way, and a file imports only from those before it:

    layers  bernoulli  gaussian  networks  subsampling  log_weights  bounds  estimators
    gradient  initial  model  adam  presets  settings  runs  training  results
    evaluation  hamiltonian  annealing  quadrature  sumo  check  gradcheck  reference
    plots  posterior  comparison  experiments
    commands  cli

``kernels``, ``engine`` and ``data`` import nothing of these. ``minimal`` is the whole
on one page. A reader of the mathematics need not open ``engine``: threads, noise by
counter, files, what a GPU needs.
"""

from importlib.metadata import PackageNotFoundError, version

from . import bounds, estimators, plots  # noqa: F401 (they register what they hold)
from .adam import Adam
from .check import check_gradients
from .comparison import compare
from .data import binarize, load
from .engine.registry import (
    BOUNDS,
    ESTIMATORS,
    Option,
    register_bound,
    register_estimator,
)
from .evaluation import evaluate
from .gradient import bound_and_grad
from .model import VAE
from .presets import PRESETS
from .results import Evaluation
from .runs import Run, load_run
from .training import NonFiniteError, train

try:
    __version__ = version("minivae")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"

__all__ = [
    "BOUNDS",
    "ESTIMATORS",
    "PRESETS",
    "VAE",
    "Adam",
    "Evaluation",
    "NonFiniteError",
    "Option",
    "Run",
    "binarize",
    "bound_and_grad",
    "check_gradients",
    "compare",
    "evaluate",
    "load",
    "load_run",
    "plots",
    "register_bound",
    "register_estimator",
    "train",
]
