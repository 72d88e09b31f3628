"""What a measured time has to name: the processor, and the versions of packages."""

import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from ..kernels.device import SIMULATED, arrays


def processor(device="cpu"):
    """The name of the processor, or of the GPU."""
    if device == "cuda":
        return card()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def card():
    """The GPU's name."""
    if SIMULATED:
        return "the simulator"
    return arrays().cuda.runtime.getDeviceProperties(0)["name"].decode()


@cache
def versions(*packages):
    """As "Python 3.11.7, numpy 2.4.6"; packages that are missing are left out."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
