"""What keeps the package readable, as numbers: how many files a training step crosses,
how many parameters a function takes, which file imports which, and how much code the
first chapters ask for.
"""

import ast
import graphlib
import re
import sys
from importlib.util import resolve_name
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import minivae as mv
from minivae import training

ROOT = Path(__file__).parent.parent
PACKAGE = Path(mv.__file__).parent


def module_of(path):
    """minivae, minivae.adam, minivae.kernels, minivae.kernels.adam, ..."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


# module -> syntax tree
TREES = {
    module_of(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


# A training step


@pytest.fixture
def traced(monkeypatch):
    """Module of the package -> its functions that training steps call."""
    crossed = {}

    def profile(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            crossed.setdefault(module_of(path), set()).add(frame.f_code.co_name)

    def trace(function):
        def call(*args, **settings):
            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                return function(*args, **settings)
            finally:
                sys.setprofile(before)

        return call

    monkeypatch.setattr(training, "step_gradient", trace(training.step_gradient))
    monkeypatch.setattr(mv.Adam, "step", trace(mv.Adam.step))
    return crossed


def test_a_step_crosses_ten_files_at_most(traced):
    """Of an IWAE with one layer, outside of kernels and engine."""
    model = mv.VAE(784, rng=np.random.default_rng(0))
    images = np.random.default_rng(1).random((40, 784))
    with threadpool_limits(1):  # others would not be traced
        mv.train(model, images, "iwae", 5, epochs=1, batch=20, progress=False)
    for module, function in (
        ("training", "step_gradient"), ("gradient", "gradient"), ("bounds", "iwae"),
        ("layers", "linear_backward"), ("adam", "step"),
    ):  # fmt: skip
        assert function in traced[f"minivae.{module}"]
    files = [
        name for name in traced if not re.match(r"minivae\.(kernels|engine)", name)
    ]
    assert len(files) <= 10, files


# Parameters

# the entry points, whose parameters are the user's choices; and Adam's formula, which
# has nine numbers and arrays however it is written
MANY_PARAMETERS = {
    "minivae.gradient.bound_and_grad",
    "minivae.model.VAE.__init__",
    "minivae.training.train",
    "minivae.kernels.adam.adam_numpy",
    "minivae.kernels.adam.adam_numba",
    "minivae.kernels.adam.adam_cuda",
    "minivae.minimal.adam",
}


def parameters(node, where):
    """(dotted name, number of parameters) of each function in ``node``."""
    for child in ast.iter_child_nodes(node):
        name = where
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{where}.{child.name}"
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            of = child.args
            stars = [star for star in (of.vararg, of.kwarg) if star is not None]
            yield name, len(of.posonlyargs + of.args + of.kwonlyargs + stars)
        yield from parameters(child, name)


def test_no_function_takes_nine_parameters():
    counts = [found for name, tree in TREES.items() for found in parameters(tree, name)]
    assert len(counts) > 200
    assert {name for name, count in counts if count >= 9} <= MANY_PARAMETERS


# Imports


def imports(module):
    """The package's modules that a module imports, wherever in it."""
    is_folder = (PACKAGE.parent / module.replace(".", "/")).is_dir()
    folder = module if is_folder else module.rpartition(".")[0]
    names = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), folder)
            names |= {f"{source}.{alias.name}" for alias in node.names}
    # a module, or what is in one
    names = {name if name in TREES else name.rpartition(".")[0] for name in names}
    return {name for name in names if name.split(".")[0] == "minivae"}


def test_modules_import_only_from_those_before_them():
    """As the package's docstring promises; and there is no cycle within a folder."""
    listed = re.search(r"before it:\n\n(.*?)\n\n", mv.__doc__, re.S)[1].split()
    # the package imports all but its command line
    order = ["kernels", "engine", "data", "minimal", *listed, "", "__main__"]
    graph = {name: imports(name) for name in TREES}
    assert graph["minivae.minimal"] == {"minivae.data"}  # MNIST, to train on
    graph["minivae.cli"].discard("minivae")  # where its version stands

    def unit(name):
        return order.index((name.split(".") + [""])[1])

    assert {unit(name) for name in graph} == {*range(len(order))}
    for name, imported in graph.items():
        assert imported <= TREES.keys()
        late = [other for other in imported if unit(other) > unit(name)]
        assert not late, (name, late)
    graphlib.TopologicalSorter(graph).prepare()


# What the first chapters ask a reader to open


def test_twelve_chapters_name_2600_lines_at_most():
    named, chapters = set(), []
    for pattern in ("0[1-9]*.md", "1[0-2]*.md"):
        chapters += sorted((ROOT / "derivations").glob(pattern))
    for chapter in chapters:
        text = chapter.read_text(encoding="utf-8")
        named |= {*re.findall(r"\]\(\.\./(minivae/[\w/]+\.py)(?:#[\w-]*)?\)", text)}
    assert len(chapters) == 12 and len(named) > 10
    lines = {
        name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in named
    }
    assert sum(lines.values()) <= 2600, lines
