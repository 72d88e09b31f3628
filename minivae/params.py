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
    dtype : dtype
    fill : callable
        np.zeros; or np.empty where `add_product` is to write every array.

    Attributes
    ----------
    vector : ndarray of shape (n,)
    """

    def __init__(self, shapes, dtype, fill=np.zeros):
        ends = [*accumulate(prod(shape) for shape in shapes.values())]
        self.vector = fill(ends[-1], dtype)
        super().__init__(
            (name, self.vector[start:end].reshape(shape))
            for (name, shape), (start, end) in zip(shapes.items(), pairwise([0, *ends]))
        )
        self.unwritten = set() if fill is np.zeros else set(shapes)

    def __setitem__(self, name, array):
        """Write ``array`` into the view of this name."""
        if array is not self[name]:  # which it is after params[name] += ...
            self[name][...] = array

    def __reduce__(self):
        """A copy, or what is pickled, has a vector of its own."""
        return Params.of, (dict(self), self.vector.dtype)

    @classmethod
    def of(cls, arrays, dtype):
        """Copies of ``arrays``, a dict of name -> array."""
        params = cls({name: array.shape for name, array in arrays.items()}, dtype)
        for name, array in arrays.items():
            params[name][...] = array
        return params

    def like(self, fill=np.zeros):
        """Other arrays of the same names, shapes and type."""
        shapes = {name: array.shape for name, array in self.items()}
        return Params(shapes, self.vector.dtype, fill)

    def add_product(self, name, a, b):
        """Add the matrix product a b; the first one is written in place."""
        if name in self.unwritten:
            self.unwritten.remove(name)
            np.matmul(a, b, out=self[name])
        else:
            self[name] += a @ b
