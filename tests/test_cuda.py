"""The CUDA kernels where there is no GPU: run by the simulator, and compiled.

The simulator is chosen when Numba is imported, so it has processes of its own, for
test_kernels.py and on_gpu.py. It has no warp shuffles: softmax_kernel_3 is compiled
only.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from minivae.kernels import (
    FILES,
    adam,
    average,
    bernoulli,
    coefficients,
    log_weight,
    noise,
    reparameterize,
    softmax,
    tanh,
)

# kernel -> its signature, {} for the arrays' type
KERNELS = {
    tanh.tanh_kernel: "void({0}[:,::1], {0}[::1])",
    tanh.tanh_backward_kernel: "void({0}[::1], {0}[::1])",
    adam.adam_scalars_kernel: "void(int64[::1], float64[::1], float64, float64,"
    " float64, {0}[::1], boolean[::1])",
    adam.adam_kernel: "void({0}[::1], {0}[::1], {0}[::1], {0}[::1], {0}, {0}[::1],"
    " boolean[::1])",
    average.average_kernel: "void({0}[::1], {0}[::1], {0}, {0})",
    reparameterize.reparameterize_kernel: "void({0}[:,::1], {0}[:,::1],"
    " {0}[:,:,::1], {0}[:,:,::1])",
    reparameterize.reparameterize_backward_kernel: "void({0}[:,:,::1], {0}[:,:,::1],"
    " {0}[:,::1], {0}[:,::1], {0}[:,::1], {0}[:,::1], {0}[:,::1])",
    bernoulli.bernoulli_kernel: "void({0}[:,:,::1], {0}[::1], {0}[:,::1],"
    " float64[:,::1])",
    bernoulli.bernoulli_backward_kernel: "void({0}[:,:,::1], {0}[::1], {0}[:,::1])",
    log_weight.log_weight_kernel: "void(float64[:,::1], {0}[:,:,::1], {0}[:,:,::1],"
    " {0}[:,::1], float64[:,::1])",
    coefficients.coefficients_kernel: "void(float64[:,::1], float64[:,::1],"
    " float64[:,::1], float64, float64, boolean[:,::1], {0}[:,:,::1])",
    softmax.softmax_kernel_1: "void(float64[:,::1], float64[::1], float64[:,::1])",
    softmax.softmax_kernel_2: "void(float64[:,::1], float64[::1], float64[:,::1])",
    softmax.softmax_kernel_3: "void(float64[:,::1], float64[::1], float64[:,::1])",
    noise.noise_kernel: "void(uint64, uint64, uint64, int64[::1], int64[::1], int64,"
    " {0}[:,::1], {0}[:,::1])",
}
# what a stray Python number would turn into doubles, at half the speed or less
SINGLE = (
    tanh.tanh_kernel,
    tanh.tanh_backward_kernel,
    adam.adam_kernel,
    average.average_kernel,
    reparameterize.reparameterize_kernel,
    reparameterize.reparameterize_backward_kernel,
    bernoulli.bernoulli_backward_kernel,
)


def test_every_kernel_is_listed():
    there = {
        value
        for file in FILES
        for name, value in vars(file).items()
        if re.fullmatch(r"\w+_kernel(_\d)?", name)
    }
    assert there == set(KERNELS)


@pytest.mark.slow
@pytest.mark.parametrize("file, choice, least", [
    ("test_kernels.py", "cuda", 80),
    ("on_gpu.py", "test", 9),  # the whole step
])  # fmt: skip
def test_under_the_simulator(file, choice, least):
    command = [sys.executable, "-m", "pytest", "-vv", "-x", "-p", "no:cacheprovider"]
    command += [str(Path(__file__).with_name(file)), "-k", choice]
    env = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]
    assert len(re.findall(" PASSED", result.stdout)) >= least


compiles = pytest.mark.skipif(
    find_spec("numba_cuda") is None,
    reason="compiling needs NVVM: pip install 'minivae[compile]'",
)


@compiles
@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_compiled_and_linked(kernel, dtype, capability):
    """To PTX, which is checked for doubles, and to the machine code of such a GPU."""
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda
    from numba.core import sigutils

    args, _ = sigutils.normalize_signature(KERNELS[kernel].format(dtype))
    ptx, _ = cuda.compile_ptx(kernel.py_func, args, cc=capability)
    target = f"sm_{capability[0]}{capability[1]}"
    assert ".entry" in ptx and f".target {target}" in ptx
    if dtype == "float32" and kernel in SINGLE:
        assert ".f64" not in ptx
    linker = Linker(
        ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=target)
    )
    assert linker.link("cubin").code.startswith(b"\x7fELF")


WITHOUT_ROW_STACK = """
import numpy as np
vars(np).pop("row_stack", None)
np.__all__ = [name for name in np.__all__ if name != "row_stack"]
from minivae.kernels.tanh import tanh_backward_kernel
from numba import cuda
from numba.types import float32
arguments = float32[::1], float32[::1]
print(cuda.compile_ptx(tanh_backward_kernel.py_func, arguments, cc=(9, 0))[0])
assert not hasattr(np, "row_stack")
"""


@compiles
def test_compiled_with_numpy_2_5():
    """Which has no row_stack, though numba-cuda asks for it; nor is it left there."""
    command = [sys.executable, "-c", WITHOUT_ROW_STACK]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and ".entry" in result.stdout, result.stderr
