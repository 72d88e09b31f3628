"""The hot kernels: one file each, every version side by side.

A kernel file holds, in this order: the equation and the loop nest in words; the
``numpy`` version, which is the reference and is written for the reader; the ``numba``
version, compiled at first use and cached on disk; the ``cuda`` version, compiled at
first use for the GPU that is there; and ``VERSIONS``, which maps a version's name to
its functions. The versions share no helper, so that one can be checked against the
other; only the dictionary joins them. The matrix product alone is not ours.

A model holds the functions of one version: ``ops = load_ops("numba")``, and then
``ops.tanh(a, b)``, ``ops.softmax(log_w)``.

A numpy or numba kernel runs on the thread that calls it, and lets other threads run
meanwhile: which thread computes what is decided in one place, `minivae.engine.threads`.

What the cuda versions share is in `device`: arrays on the GPU, and launches.

A file is self-contained because Numba's on-disk cache notices an edit in the file of a
function, but not one in another file that the function calls.
"""

from types import SimpleNamespace

from . import (
    adam,
    average,
    bernoulli,
    coefficients,
    log_weight,
    matmul,
    noise,
    reparameterize,
    softmax,
    tanh,
)

FILES = (
    matmul,
    tanh,
    reparameterize,
    bernoulli,
    log_weight,
    softmax,
    coefficients,
    adam,
    average,
    noise,
)
NAMES = ("numpy", "numba")  # for arrays in the host's memory
DEVICES = {"cpu": NAMES, "cuda": ("cuda",)}  # and what each device can run
DEVICE_OF = {name: device for device, names in DEVICES.items() for name in names}


class Ops(SimpleNamespace):
    """One version's function of every kernel, and the version's ``name``."""

    def __reduce__(self):  # compiled functions are not copied or pickled, but found
        return load_ops, (self.name,)


def load_ops(name):
    """The `Ops` of the version called ``name``."""
    ops = Ops(name=name)
    for file in FILES:
        vars(ops).update(vars(file.VERSIONS[name]))
    return ops
