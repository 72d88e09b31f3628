"""Adam (Kingma & Ba 2015), written out and going uphill."""

import numpy as np

from .engine.checks import choose
from .engine.params import Params
from .kernels import DEVICE_OF, DEVICES, load_ops
from .kernels.device import on_host


class Adam:
    """The optimiser: raises the objective by a step along its rescaled gradient.

    Parameters
    ----------
    params : Params
        A model's ``params``; changed in place by `step`.
    learning_rate : float
        May be set anew between steps.
    beta1, beta2 : float
        Decay of the running means of the gradient and of its square.
    epsilon : float
        Added to the root of the second moment.
    kernels : str, optional
        The version of the kernel to use. On a CPU "numba", which is the default, or
        "numpy"; on a GPU "cuda".

    Attributes
    ----------
    t : ndarray of int64 and shape ()
        Steps taken.
    m, v : Params
        The running means.
    """

    def __init__(
        self,
        params: Params,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        kernels: str | None = None,
    ):
        self.params, self.learning_rate = params, learning_rate
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        if not isinstance(params, Params):
            raise TypeError(
                "params must be a model's, or another Params;"
                f" got {type(params).__name__}"
            )
        if kernels is None:
            device = "cpu" if on_host(params.vector) else "cuda"
            kernels = DEVICES[device][-1]
        self.ops = load_ops(choose("kernels", kernels, DEVICE_OF))
        self.t = np.zeros((), np.int64, like=params.vector)
        self.m, self.v = params.zeros(), params.zeros()

    def step(self, grads):
        """One step along ``grads``, a dict shaped like ``params``.

        Returns
        -------
        finite : bool
            False if a NaN or an infinity is in ``grads`` or in their squares. On a GPU
            it is an array (1,) there, and to look at it is to wait for the step.

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
        if not isinstance(grads, Params) or list(grads) != list(self.params):
            in_order = {name: grads[name] for name in self.params}
            grads = Params.of(in_order, self.params.vector.dtype)
        self.t += 1
        # on one thread: to wake another costs what it saves
        return self.ops.adam(
            self.params.vector,
            grads.vector,
            self.m.vector,
            self.v.vector,
            t=self.t if self.ops.name == "cuda" else int(self.t),
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
        )
