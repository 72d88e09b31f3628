"""Adam (Kingma & Ba 2015), written out and going uphill."""

import numpy as np

from .inputs import DTYPES, choose
from .kernels import NAMES
from .kernels import adam as adam_kernel


class Adam:
    """The optimiser: raises the objective by a step along its rescaled gradient.

    Parameters
    ----------
    params : dict
        Name -> C-contiguous array; changed in place by `step`.
    learning_rate : float
        May be set anew between steps.
    beta1, beta2 : float
        Decay of the running means of the gradient and of its square.
    epsilon : float
        Added to the root of the second moment.
    kernels : str
        The version of the kernel to use.

    Attributes
    ----------
    t : int
        Steps taken.
    m, v : dict
        Name -> array: the running means.
    """

    def __init__(
        self,
        params,
        learning_rate=1e-3,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        kernels="numba",
    ):
        self.params, self.learning_rate = params, learning_rate
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.kernels = choose("kernels", kernels, NAMES)
        for name, array in params.items():
            if not array.flags.c_contiguous or array.dtype.name not in DTYPES:
                raise ValueError(
                    f"{name} must be a C-contiguous array of {' or '.join(DTYPES)};"
                    f" got {array.dtype}, strides {array.strides}"
                )
        self.t = 0
        self.m = {name: np.zeros_like(array) for name, array in params.items()}
        self.v = {name: np.zeros_like(array) for name, array in params.items()}

    def step(self, grads):
        """One step along ``grads``, a dict shaped like ``params``.

        Raises
        ------
        ValueError
            If a gradient is missing or of another shape than its parameter.
        """
        for name, p in self.params.items():
            if name not in grads or grads[name].shape != p.shape:
                got = f"shape {grads[name].shape}" if name in grads else "no such array"
                raise ValueError(
                    f"the gradient of {name} must be of shape {p.shape}; got {got}"
                )
        self.t += 1
        step = adam_kernel.VERSIONS[self.kernels].step
        for name, p in self.params.items():
            m, v = self.m[name], self.v[name]
            step(
                p,
                grads[name],
                m,
                v,
                self.t,
                self.learning_rate,
                self.beta1,
                self.beta2,
                self.epsilon,
            )
