"""Variational and importance weighted autoencoders from nothing but NumPy and Numba.

Every backward pass is written by hand, beside its forward, and derived in the numbered
chapters of ``derivations/``, whose equations the code cites by number.

Sizes      B images in a minibatch, K importance samples (the papers' k), D visible
           units, H hidden units, L latent units; R = B * K rows, of which row r is
           sample r % K of image r // K
Symbols    x (B, D); eps, z (B, K, L); mu, log_sigma (B, L); log_w (B, K)
           theta: generative (decoder) parameters; phi: recognition (encoder) ones
           dz means d(objective)/dz. The objective is maximised, and only the optimiser
           knows the sign.

Data flows one way, and a module imports only from those before it:

    kernels  inputs  noise  params  threads  layers  mlp  gaussian  bernoulli  model
    bounds  estimators  gradient  adam  data  checkpoint  train  evaluate  check  plots
    reproduce  cli
"""

from .adam import Adam
from .bounds import BOUNDS
from .check import check_gradients
from .data import binarize, load
from .estimators import ESTIMATORS
from .evaluate import Evaluation, evaluate
from .gradient import bound_and_grad
from .model import VAE
from .train import PRESETS, NonFiniteError, Run, load_run, train

__all__ = [
    "BOUNDS",
    "ESTIMATORS",
    "PRESETS",
    "VAE",
    "Adam",
    "Evaluation",
    "NonFiniteError",
    "Run",
    "binarize",
    "bound_and_grad",
    "check_gradients",
    "evaluate",
    "load",
    "load_run",
    "train",
]
