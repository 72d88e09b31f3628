"""Named arrays that are one vector: parameters, their gradients, Adam's moments."""

from itertools import accumulate, pairwise
from math import prod

import numpy as np


class Params(dict):
    """Name -> array. The arrays are views, end to end, of ``vector``.

    A layer asks for its matrix by name; the optimiser, and the sum of two threads'
    gradients, take the whole vector.

    Parameters
    ----------
    shapes : dict
        Name -> shape.
    vector : ndarray of shape (n,)
        On the host or on the device.
    uninitialised : iterable of str
        The names whose first product is to be written, not added, because ``vector``
        holds nothing yet.

    Attributes
    ----------
    vector : ndarray of shape (n,)
    """

    def __init__(self, shapes, vector, uninitialised=()):
        self.vector, self.uninitialised = vector, set(uninitialised)
        ends = [*accumulate(prod(shape) for shape in shapes.values())]
        super().__init__(
            (name, vector[start:end].reshape(shape))
            for (name, shape), (start, end) in zip(shapes.items(), pairwise([0, *ends]))
        )

    def __setitem__(self, name, array):
        """Write ``array`` into the view of this name."""
        if array is not self[name]:  # which it is after params[name] += ...
            self[name][...] = array

    def __reduce__(self):
        """A copy, or what is pickled, has a vector of its own."""
        return Params, (self.shapes(), self.vector.copy(), self.uninitialised)

    @classmethod
    def of(cls, arrays, dtype):
        """Copies of ``arrays``, a dict of name -> array."""
        shapes = {name: array.shape for name, array in arrays.items()}
        vector = np.concatenate([array.ravel() for array in arrays.values()])
        return cls(shapes, vector.astype(dtype, copy=False))

    def shapes(self):
        """Name -> shape."""
        return {name: array.shape for name, array in self.items()}

    def zeros(self):
        """Zeros of the same names, shapes and type."""
        return Params(self.shapes(), np.zeros_like(self.vector))

    def uninitialised_like(self):
        """The same, with nothing in it yet: `add_product` writes each array first."""
        return Params(self.shapes(), np.empty_like(self.vector), uninitialised=self)

    def add_product(self, name, matmul, a, b):
        """Add the matrix product a b, by a version's ``matmul``; the first is written
        in place.
        """
        if name in self.uninitialised:
            self.uninitialised.remove(name)
            matmul(a, b, out=self[name])
        else:
            self[name] += matmul(a, b)
