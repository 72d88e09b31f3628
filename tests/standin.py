"""A stand-in for the GPU, on the host: arrays as strict as CuPy's, the kernels'
reference versions for the cuda ones, and SciPy's BLAS for cuBLAS.

What would make the host wait for the device, or could not be recorded in a CUDA graph,
is written down in `EVENTS`, what CuPy would launch in `LAUNCHES`; what CuPy refuses
raises TypeError.
"""

import ctypes
from types import SimpleNamespace

import numpy as np
from numba.extending import get_cython_function_address

from minivae import kernels
from minivae.kernels import device, matmul

EVENTS, LAUNCHES = [], []
# NumPy's functions that the package hands device arrays to, and their keywords: CuPy
# has each of them. Its eye and full refuse the keyword device, which NumPy hands on
FUNCTIONS = {
    "arange", "asarray", "concatenate", "empty", "empty_like", "full_like", "norm",
    "ones_like", "repeat", "sort", "stack", "where", "zeros", "zeros_like",
}  # fmt: skip
KEYWORDS = {"axis", "shape"}


def raw(value):
    """What is inside; a host's array is refused."""
    if isinstance(value, DeviceArray):
        return value.inside
    if isinstance(value, np.ndarray):
        raise TypeError(f"an array of the host, {value.shape}, among the device's")
    if isinstance(value, (tuple, list)):
        return type(value)(raw(v) for v in value)
    return value


def wrap(value):
    if isinstance(value, tuple):
        return tuple(wrap(v) for v in value)
    return DeviceArray(np.asarray(value))


def method(name):
    def call(self, *args, **kwargs):
        result = getattr(self.inside, name)(*raw(args), **kwargs)
        note(name, result, self.inside)
        return wrap(result)

    return call


def note(name, result, source=None):
    """Write a launch down: where something new is computed, be it as small as it is."""
    if np.size(result) and (source is None or not np.shares_memory(result, source)):
        LAUNCHES.append(name)


def waits(name):
    def call(self, *args):
        EVENTS.append(name)
        return getattr(self.inside, name)(*args)

    return call


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array as CuPy's."""

    def __init__(self, inside):
        self.inside = inside

    shape, dtype, ndim, size, itemsize = (
        property(lambda self, name=name: getattr(self.inside, name))
        for name in ("shape", "dtype", "ndim", "size", "itemsize")
    )
    # of an array that holds nothing CuPy says zeros
    strides = property(lambda self: self.inside.strides if self.size else (0, 0))
    T = property(lambda self: wrap(self.inside.T))
    data = property(lambda self: SimpleNamespace(ptr=self.inside.ctypes.data))
    all, astype, copy, cumsum, max, mean, min, ravel, reshape, sum = map(
        method,
        ("all", "astype", "copy", "cumsum", "max", "mean", "min", "ravel", "reshape",
         "sum"),
    )  # fmt: skip
    __float__, __int__, __bool__ = map(waits, ("__float__", "__int__", "__bool__"))

    def __len__(self):
        return len(self.inside)

    def get(self):
        EVENTS.append("get")
        return self.inside.copy()

    def nonzero(self):
        EVENTS.append("nonzero")
        return wrap(self.inside.nonzero())

    def __array__(self, *args, **kwargs):
        raise TypeError("no conversion to NumPy without get()")

    def __getitem__(self, key):
        key = raw(key)
        if isinstance(key, np.ndarray) and key.dtype == bool:
            EVENTS.append("mask")
        view = self.inside[key]  # a number is an array of no axes, and a view
        if isinstance(view, np.ndarray):
            note("take", view, self.inside)
        return wrap(view if isinstance(view, np.ndarray) else self.inside[key, ...])

    def __setitem__(self, key, value):
        self.inside[raw(key)] = raw(value)
        note("copy", self.inside[raw(key)])

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc is np.matmul:
            EVENTS.append("matmul")  # CuPy's does not let itself be recorded
        with np.errstate(all="ignore"):  # a GPU warns of nothing
            result = ufunc(*raw(inputs), *raw(out))
        note(ufunc.__name__, result)
        return out[0] if out else wrap(result)

    def __array_function__(self, function, types, args, kwargs):
        name = function.__name__
        if name not in FUNCTIONS or kwargs.keys() - KEYWORDS:
            return NotImplemented
        if name == "asarray" and isinstance(args[0], np.ndarray):
            return wrap(args[0].copy())  # a copy to the device
        result = function(*raw(args), **kwargs)
        if name not in ("empty", "empty_like"):
            note(name, result)
        return wrap(result)


class HostBlas:
    """SciPy's BLAS under cuBLAS's names: it counts in columns, too, and reads the same
    numbers at the same addresses.
    """

    def __init__(self):
        self.cublasSgemm_v2, self.cublasDgemm_v2 = (
            ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 13)(address)
            for address in (
                get_cython_function_address("scipy.linalg.cython_blas", name)
                for name in ("sgemm", "dgemm")
            )
        )
        self.cublasSgemm_v2 = self.called(self.cublasSgemm_v2)
        self.cublasDgemm_v2 = self.called(self.cublasDgemm_v2)

    @staticmethod
    def called(function):
        def gemm(handle, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
            LAUNCHES.append("product")
            assert lda >= max(1, k if op_a else m) and ldc >= max(1, m)
            assert ldb >= max(1, n if op_b else k)
            op_a, op_b = (ctypes.c_char(b"NT"[op : op + 1]) for op in (op_a, op_b))
            m, n, k, lda, ldb, ldc = map(ctypes.c_int, (m, n, k, lda, ldb, ldc))
            by = ctypes.byref
            sizes = by(op_a), by(op_b), by(m), by(n), by(k)
            function(*sizes, alpha, a, by(lda), b, by(ldb), beta, c, by(ldc))
            return 0

        return gemm


# kernels that write their result over their first argument, as the cuda versions do
IN_PLACE = ("tanh_numpy", "tanh_backward_numpy", "bernoulli_backward_numpy")


def on_device(function):
    """A kernel's reference version, called with the device's arrays."""

    def call(*args, **kwargs):
        kwargs = {name: raw(value) for name, value in kwargs.items()}
        with np.errstate(all="ignore"):
            result = function(*raw(args), **kwargs)
        if function.__name__ in IN_PLACE:
            args[0].inside[...] = result
            result = args[0].inside
        first = result[0] if isinstance(result, tuple) else result
        for _ in range(function.__name__.startswith("adam") + 1):  # and its scalars
            note(function.__name__, 1 if first is None else first)
        return wrap(result)

    return call


def install(monkeypatch):
    """Let device "cuda" be the stand-in."""
    there = SimpleNamespace(
        asarray=lambda a: wrap(np.array(a)),
        empty=lambda shape, dtype: wrap(np.full(shape, 1, dtype)),
    )
    monkeypatch.setattr(device, "arrays", lambda: there)
    monkeypatch.setattr("minivae.model.require_device", lambda: None)
    for file in kernels.FILES:
        if file is matmul:
            continue
        functions = vars(file.VERSIONS["numpy"]).items()
        standins = {name: on_device(function) for name, function in functions}
        monkeypatch.setitem(file.VERSIONS, "cuda", SimpleNamespace(**standins))
    blas = HostBlas()
    monkeypatch.setattr(matmul, "library", lambda: blas)
    monkeypatch.setattr(matmul, "handle", lambda stream: (None, None))
    monkeypatch.setattr(matmul, "stream_pointer", lambda: 0)
    EVENTS.clear()
    LAUNCHES.clear()
