"""What minivae is called, what it needs and what it ships."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="minivae",
    version="0.2.0",
    description="Variational and importance weighted autoencoders from nothing but"
    " NumPy and Numba, with every gradient written by hand and checked.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT AND CC-BY-SA-3.0",  # the code, and the MNIST files that it ships
    license_files=["LICENSE", "minivae/data/README.md"],
    python_requires=">=3.11",
    packages=find_packages(include=["minivae", "minivae.*"]),
    package_data={
        "minivae": ["py.typed"],
        "minivae.data": ["*.gz", "*.npz", "README.md"],
    },
    install_requires=["numpy", "numba", "scipy", "matplotlib", "tqdm", "threadpoolctl"],
    extras_require={
        # numba-cuda, up to 0.30.4, is not for NumPy 2.5 (minivae/kernels/device.py)
        "cuda": [
            "numba-cuda[cu13]",
            "numpy<2.5",
            "cupy-cuda13x[ctk]",
            "cuda-pathfinder",
        ],
        "compile": ["numba-cuda[cu13]"],  # what compiles for a GPU, and needs none
        "cluster": ["distributed"],
        "download": ["pooch"],
        "lint": ["ruff==0.17.6"],
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "sybil~=10.1",
            "markdown-it-py",
            "pooch",
            "distributed",
            "build",
        ],
        "site": [
            "sphinx==9.0.4",
            "myst-parser==5.2.0",
            "furo==2025.12.19",
            "mini-racer==0.14.1",
            "nbformat==5.11.1",
            "selenium==4.51.0",
        ],
        "bench": ["torch", "jax"],
    },
    entry_points={"console_scripts": ["minivae = minivae.cli:main"]},
)
