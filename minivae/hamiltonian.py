"""Hamiltonian Monte Carlo: a transition that leaves a density as it is (chapter 28).

The density, of eps (B, C, L), is N(eps; 0, I) times w(eps)^beta, up to a constant. Each
of B images has C chains; a position is eps, log w (B, C) and d log w / d eps, so that a
transition starts with what the one before it has computed.
"""

import numpy as np

LEAPFROGS = 3  # of a transition: more distributions gain more (chapter 28)


@np.errstate(all="ignore")  # a step that is too large ends anywhere, and is rejected
def transition(weigh, position, *, beta, step, momentum, uniform):
    """One transition of every chain (Neal 2011; eqs. 28.5 to 28.7).

    Parameters
    ----------
    weigh : callable
        eps (B, C, L) -> log w (B, C) float64, and its gradient (B, C, L).
    position : tuple
        eps, log w and its gradient.
    beta, step : float
        The power of w, and the size of a leapfrog.
    momentum : ndarray of shape (B, C, L)
        Standard normal.
    uniform : ndarray of shape (B, C)
        Numbers in [0, 1).

    Returns
    -------
    position : tuple
    accepted : ndarray of shape (B, C)
        Whether the chain has moved.
    """
    there, momentum_there = leapfrogs(weigh, position, beta, step, momentum)
    gained = energy(there, beta, momentum_there) - energy(position, beta, momentum)
    accepted = np.log(uniform) < -gained  # eq. 28.7; nothing is less than a NaN
    wide = accepted[..., None]
    position = tuple(
        np.where(wide if new.ndim == 3 else accepted, new, old)
        for new, old in zip(there, position)
    )
    return position, accepted


def leapfrogs(weigh, position, beta, step, momentum):
    """`LEAPFROGS` steps of Hamilton's equations: position and momentum (eq. 28.6)."""
    eps, _, slope = position
    for _ in range(LEAPFROGS):
        momentum = momentum + step / 2 * (beta * slope - eps)  # eq. 28.6
        eps = eps + step * momentum
        log_w, slope = weigh(eps)
        momentum = momentum + step / 2 * (beta * slope - eps)
    return (eps, log_w, slope), momentum


def energy(position, beta, momentum):
    """The Hamiltonian of each chain, (B, C) float64 (eq. 28.5)."""
    eps, log_w, _ = position
    squares = (eps**2 + momentum**2).sum(axis=2, dtype=np.float64)
    return squares / 2 - beta * log_w  # eq. 28.5
