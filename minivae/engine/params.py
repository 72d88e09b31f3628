"""Named arrays that are one vector: parameters, their gradients, Adam's moments."""

from copy import copy
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from ..kernels.device import to_host
from .digest import digest


class Params(dict):
    """Name -> array. The arrays are views, end to end, of ``vector``.

    A layer asks for its matrix by name; the optimiser, and the sum of two threads'
    gradients, take the whole vector. So every way of a dict to write writes into the
    views, a copy has a vector of its own, and the names stay as they are.

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
        self._vector, self.uninitialised = vector, set(uninitialised)
        ends = [*accumulate(prod(shape) for shape in shapes.values())]
        super().__init__(
            (name, vector[start:end].reshape(shape))
            for (name, shape), (start, end) in zip(shapes.items(), pairwise([0, *ends]))
        )

    def __repr__(self):
        lines = [f"{name:<20} {array.shape}" for name, array in self.items()]
        of = f"{len(self)} arrays, {self.vector.size:,} numbers of {self.vector.dtype}"
        return "\n".join([f"Params: {of}", *lines])

    @property
    def vector(self):
        """All arrays end to end; to set it is to write into it."""
        return self._vector

    @vector.setter
    def vector(self, vector):
        if vector is not self._vector:  # which it is after params.vector += ...
            self._vector[...] = vector

    def __setitem__(self, name, array):
        """Write ``array``, of the same shape or one number, into the view of this name.

        Raises
        ------
        KeyError, ValueError
            For another name, and for another shape.
        """
        if name in self and array is self[name]:  # it is, after params[name] += ...
            return
        self.view_for(name, array)[...] = array

    def view_for(self, name, array):
        """The view that ``array`` may be written into."""
        if name not in self:
            raise KeyError(
                f"no array of the name {name!r}; there are {', '.join(self)}"
            )
        shape = array.shape if hasattr(array, "shape") else np.shape(array)
        if shape not in ((), self[name].shape):
            raise ValueError(f"{name} must be of shape {self[name].shape}; got {shape}")
        return self[name]

    def update(self, *others, **named):
        """Write all arrays, or none if one of them cannot be."""
        arrays = dict(*others, **named)
        for name, array in arrays.items():
            self.view_for(name, array)
        for name, array in arrays.items():
            self[name] = array

    def __ior__(self, other):
        self.update(other)
        return self

    def __or__(self, other):
        result = self.copy()
        result.update(other)
        return result

    def setdefault(self, name, default=None):
        """The array of this name, which is there."""
        return self.view_for(name, 0)

    def refuse(self, *args):
        """What would leave a gap in the vector."""
        raise TypeError(
            "the arrays of a Params stay: their values alone can be changed"
        )

    __delitem__ = pop = popitem = clear = refuse

    def __reduce__(self):
        """A copy, or what is pickled, has a vector of its own."""
        return Params, (self.shapes(), self.vector.copy(), self.uninitialised)

    def copy(self):
        """The same values in a vector of their own."""
        return copy(self)

    @classmethod
    def of(cls, arrays, dtype):
        """Copies of ``arrays``, a dict of name -> array."""
        shapes = {name: array.shape for name, array in arrays.items()}
        vector = np.concatenate([array.ravel() for array in arrays.values()])
        return cls(shapes, vector.astype(dtype, copy=False))

    def shapes(self):
        """Name -> shape."""
        return {name: array.shape for name, array in self.items()}

    def digest(self):
        """The `digest` of all values: equal for equal values of one type."""
        return digest(to_host(self.vector))

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
        first = name in self.uninitialised
        self.uninitialised.discard(name)

        def product():
            if first:
                matmul(a, b, out=self[name])
            else:
                self[name] += matmul(a, b)

        self.aside(product)

    @staticmethod
    def aside(product):
        """Where the products are computed: here and now. On a GPU
        `minivae.engine.recording.products_aside` puts a second stream in its place.
        """
        product()
