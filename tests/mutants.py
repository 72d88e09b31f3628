"""How strong are the tests? Changes one thing at a time in a copy of the code, and sees
whether a test fails.

    python tests/mutants.py [--number 160] [--seed 0] [--processes 2] [--again]

A mutant is one changed operator, comparison, number or function, or one statement left
out. A sample of them, the same for the same seed and spread over the files of the
mathematics, goes through the quick tests of its file; compiled kernels get a fresh
cache. Writes benchmarks/results/mutants.md and mutants.json. CUDA kernels are left out:
their tests run in a simulator, or on a GPU. With --again only what survived the last
time, and is not known to be the same, is tried; the rest is taken from mutants.json.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from queue import SimpleQueue

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SECONDS = 900  # a mutant that takes several times as long as its tests has hung
# file -> the tests that may see its mutants, the quickest first
TESTS = {
    "layers": "minimal gradients",
    "bernoulli": "minimal densities gradients",
    "gaussian": "minimal densities gradients derivations/0*",
    "networks": "minimal model gradients evaluation params",
    "log_weights": "minimal densities gradients estimators",
    "subsampling": "subsampling estimators schedule",
    "bounds": "bounds minimal densities estimators registry",
    "estimators": "estimators gradients registry training",
    "gradient": "minimal gradients estimators registry bad_input training",
    "model": "minimal model params bad_input densities evaluation training recording",
    "adam": "schedule minimal params bad_input device training derivations/11*",
    "settings": "schedule training bad_input",
    "evaluation": "evaluation partial bad_input",
    "training": "schedule training recording threads origin report bad_input callback",
    "kernels/average": "kernels schedule",
    "kernels/coefficients": "kernels subsampling",
    "kernels/matmul": "kernels device minimal",
    "kernels/adam": "kernels subsampling minimal training",
    "kernels/bernoulli": "kernels minimal densities",
    "kernels/log_weight": "kernels minimal densities",
    "kernels/reparameterize": "kernels minimal gradients",
    "kernels/softmax": "kernels bounds minimal",
    "kernels/tanh": "kernels minimal gradients",
    "kernels/noise": "kernels noise training",
}
# mutants that compute the same, and why: (file, changed line) -> reason
RESHAPED = "any negative number is the missing axis to reshape"
UNUSED = "where the number is put, it is not used"
EQUIVALENT = {
    (
        "log_weights",
        "path_r, score_r = (path.reshape(-1, 1), score.reshape(-1, 1))  ->  "
        "path_r, score_r = (path.reshape(-2, 1), score.reshape(-1, 1))",
    ): RESHAPED,
    (
        "log_weights",
        "path_r, score_r = (path.reshape(-1, 1), score.reshape(-1, 1))  ->  "
        "path_r, score_r = (path.reshape(-1, 1), score.reshape(-2, 1))",
    ): RESHAPED,
    (
        "log_weights",
        "plain = on_host(score) and np.array_equal(score, -path)  ->  "
        "plain = on_host(score) and np.array_equal(score, +path)",
    ): "the second pass has nothing to add: it takes time alone",
    (
        "subsampling",
        "return keep / np.where(keep, probability, 1)  ->  "
        "return keep / np.where(keep, probability, 2)",
    ): UNUSED,
    (
        "bounds",
        "pivot, log_w = (np.where(dead, 0, pivot), np.where(dead[:, None], 0, log_w))"
        "  ->  pivot, log_w = (np.where(dead, 0, pivot),"
        " np.where(dead[:, None], 1, log_w))",
    ): UNUSED,
    (
        "model",
        "eps = self.to_device(rng.standard_normal(heads[0].shape, self.dtype))  ->  "
        "eps = self.to_device(rng.standard_normal(heads[1].shape, self.dtype))",
    ): "the mean and log sigma have one shape",
    **{
        (
            "kernels/matmul",
            f"WORKSPACE = 32 * 2 ** 20  ->  WORKSPACE = {other}",
        ): "cuBLAS's memory: of a GPU alone"
        for other in ("32 * 2 ** 21", "33 * 2 ** 20", "32 * (2 * 20)", "32 / 2 ** 20")
    },
    (
        "evaluation",
        "Path(partial).unlink(missing_ok=True)  ->  "
        "Path(partial).unlink(missing_ok=False)",
    ): "there always is that file",
    (
        "bounds",
        "pivot = log_w.max(axis=1) if s > 0 else log_w.min(axis=1)  ->  "
        "pivot = log_w.max(axis=1) if s >= 0 else log_w.min(axis=1)",
    ): "s is 0 only where alpha is 1, which is the ELBO's case",
    (
        "kernels/bernoulli",
        "one, single = (a.dtype.type(1), a.itemsize == 4)  ->  "
        "one, single = (a.dtype.type(1), a.itemsize == 5)",
    ): "float32 by the library's exponential: the same numbers, only slower",
    (
        "kernels/noise",
        "c = np.float32(1 / 40320)  ->  c = np.float32(1 / 40321)",
    ): "the last bit of a float32 cosine is larger than the change",
    (
        "kernels/bernoulli",
        "real, single = (a.dtype.type, a.itemsize == 4)  ->  "
        "real, single = (a.dtype.type, a.itemsize == 5)",
    ): "float32 by the library's exponential: the same numbers, only slower",
    (
        "training",
        "bar.set_postfix_str(f'epoch {epoch}{text}', refresh=False)  ->  "
        "bar.set_postfix_str(f'epoch {epoch}{text}', refresh=True)",
    ): "how often the bar is drawn",
    (
        "kernels/noise",
        "u = uniform_numba(key, first + i, 1, n, step, stream)  ->  "
        "u = uniform_numba(key, first + i, 2, n, step, stream)",
    ): "the second row is drawn and not used",
    (
        "kernels/softmax",
        "m = 0.0  ->  m = 0.01",
    ): "exp(-inf less any number) is 0",
    (
        "evaluation",
        "IMAGES, SAMPLES = ({'cpu': 50, 'cuda': 1000}, 20)  ->  "
        "IMAGES, SAMPLES = ({'cpu': 51, 'cuda': 1000}, 20)",
    ): "it decides on time alone",
    (
        "evaluation",
        "bounds[size][rows] = to_host(value.reshape(len(log_w), -1).mean(axis=1))  ->  "
        "bounds[size][rows] = to_host(value.reshape(len(log_w), -2).mean(axis=1))",
    ): RESHAPED,
    (
        "bounds",
        "pivot, log_w = (np.where(dead, 0, pivot), np.where(dead[:, None], 0, log_w))"
        "  ->  pivot, log_w = (np.where(dead, 1, pivot),"
        " np.where(dead[:, None], 0, log_w))",
    ): UNUSED,
    (
        "bounds",
        "rest = np.where(alone, 0, rest)  ->  rest = np.where(alone, 1, rest)",
    ): UNUSED,
    (
        "estimators",
        "baseline, n = (np.empty_like(log_w), max(1, VIMCO_NUMBERS // (B * K)))  ->  "
        "baseline, n = (np.empty_like(log_w), max(2, VIMCO_NUMBERS // (B * K)))",
    ): "it decides on memory alone",
    (
        "estimators",
        "VIMCO_NUMBERS = 2 ** 20  ->  VIMCO_NUMBERS = 2 ** 21",
    ): "it decides on memory alone",
}
SWAPS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult],
    ast.Pow: [ast.Mult], ast.FloorDiv: [ast.Mult], ast.Mod: [ast.FloorDiv],
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn],
    ast.NotIn: [ast.In], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.And: [ast.Or], ast.Or: [ast.And],
}  # fmt: skip
FUNCTIONS = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max",
    "sum": "mean", "mean": "sum", "zeros": "ones", "zeros_like": "ones_like",
    "ones_like": "zeros_like", "exp": "expm1", "log1p": "log",
}  # fmt: skip


def mutants(source):
    """All mutants of a file: (line number, the changed source)."""
    tree = ast.parse(source)
    found = []

    def changed(node, change):
        """The source with ``change(node)`` made, on a copy."""
        copy = deepcopy(tree)
        twin = next(
            other for one, other in zip(ast.walk(tree), ast.walk(copy)) if one is node
        )
        change(twin)
        found.append((node.lineno, ast.unparse(copy)))

    def visit(node):
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            return  # the words of messages
        if isinstance(node, ast.FunctionDef) and is_for_cuda(node):
            return
        if isinstance(node, ast.AnnAssign) and node.value is None:
            return
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSIONS":
            return  # a table of names, and of blocks for CUDA
        for what, replace in changes(node):
            changed(what, replace)
        if is_axis(node):
            return
        for name, child in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for item in child if isinstance(child, list) else [child]:
                if isinstance(item, ast.AST):
                    visit(item)

    visit(tree)
    return found


def is_for_cuda(function):
    decorators = map(ast.unparse, function.decorator_list)
    return "cuda" in function.name or any("cuda" in text for text in decorators)


def changes(node):
    """(node with a line, function that changes its twin in a copy) of every mutant
    that begins at ``node``.
    """
    if isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
        for swap in SWAPS.get(type(node.op), ()):
            yield node, lambda twin, swap=swap: setattr(twin, "op", swap())
    if isinstance(node, ast.Compare):
        for swap in SWAPS.get(type(node.ops[0]), ()):
            yield node, lambda twin, swap=swap: twin.ops.__setitem__(0, swap())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield node, undo_sign
    if is_axis(node):
        yield node.value, lambda twin: setattr(twin, "value", 1 - twin.value)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        other = node.value + 1 if type(node.value) is int else 1.01 * node.value or 0.01
        yield node, lambda twin: setattr(twin, "value", other)
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield node, lambda twin: setattr(twin, "value", not twin.value)
    if isinstance(node, ast.Attribute) and node.attr in FUNCTIONS:
        yield node, lambda twin: setattr(twin, "attr", FUNCTIONS[twin.attr])
    for name in ("body", "orelse"):
        for child in statements(node, name):
            if deletable(child):
                yield child, make_nothing


def is_axis(node):
    return isinstance(node, ast.keyword) and ast.unparse(node) in ("axis=0", "axis=1")


def undo_sign(node):
    """-a becomes a, and not a becomes not not a."""
    if isinstance(node.op, ast.Not):
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    else:
        node.op = ast.UAdd()


def statements(node, name):
    body = getattr(node, name, ())
    return body if isinstance(body, list) else ()


def deletable(statement):
    """Whether a statement can be left out: a call or a change of something there."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.Assign):
        return isinstance(statement.targets[0], (ast.Subscript, ast.Attribute))
    return isinstance(statement, ast.AugAssign)


def make_nothing(statement):
    """Turn a statement, in place, into one that does nothing."""
    line = {"lineno": statement.lineno, "col_offset": statement.col_offset}
    statement.__class__ = ast.Pass
    statement.__dict__.clear()
    statement.__dict__.update(line)


def sample(number, seed):
    """``number`` mutants: of each file in proportion to how many it has, and four at
    least. (file, line number, source), the original first in its unparsed form.
    """
    of_file = {}
    for file in TESTS:
        source = (ROOT / "minivae" / f"{file}.py").read_text(encoding="utf-8")
        of_file[file] = mutants(source)
    total, chosen = sum(map(len, of_file.values())), []
    for file, there in of_file.items():
        n = min(len(there), max(4, round(number * len(there) / total)))
        rng = np.random.default_rng([seed, *file.encode()])  # whatever others hold
        picked = sorted(rng.choice(len(there), n, replace=False))
        chosen += [(file, *there[i]) for i in picked]
    return chosen, total


def copy_of_project(folder):
    for name in ("minivae", "tests", "derivations", "benchmarks"):
        skip = shutil.ignore_patterns("*.png")
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("conftest.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)


def paths_of(file):
    for name in TESTS[file].split():
        if "/" in name:
            yield from (str(p.relative_to(ROOT)) for p in ROOT.glob(f"{name}.md"))
        else:
            yield f"tests/test_{name}.py"


def seen_by(folder, file, source):
    """The first test that fails with this source; None if all pass."""
    path = folder / "minivae" / f"{file}.py"
    original = path.read_text(encoding="utf-8")
    path.write_text(source, encoding="utf-8")
    if file.startswith("kernels"):
        shutil.rmtree(folder / "cache", ignore_errors=True)
    try:
        return failing(folder, paths_of(file))
    finally:
        path.write_text(original, encoding="utf-8")


def failing(folder, paths):
    """The first of the tests in ``paths`` that fails; None if all pass."""
    env = os.environ | {
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{f"{of}_NUM_THREADS": "1" for of in ("OMP", "OPENBLAS", "NUMBA")},
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-m", "not slow", "-o", "addopts=", *paths]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"hung for {SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0] if failed else done.stdout[-300:]


def changed_line(file, line, source):
    """What the mutant changed: the line before and after, unparsed alike."""
    before = ast.unparse(
        ast.parse((ROOT / "minivae" / f"{file}.py").read_text(encoding="utf-8"))
    ).splitlines()
    after = source.splitlines()
    pairs = [(b, a) for b, a in zip(before, after) if b != a]
    b, a = pairs[0] if pairs else ("", "")
    return f"{b.strip()}  ->  {a.strip()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--number", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="only what survived")
    args = parser.parse_args()
    chosen, total = sample(args.number, args.seed)
    before = json.loads((RESULTS / "mutants.json").read_text()) if args.again else []
    before = {(row["file"], row["change"]): row["seen_by"] for row in before}
    start, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        free = SimpleQueue()
        for i in range(args.processes):
            copy_of_project(Path(scratch, str(i)))
            free.put(Path(scratch, str(i)))
        everything = dict.fromkeys(path for file in TESTS for path in paths_of(file))
        if failed := failing(Path(scratch, "0"), everything):
            sys.exit(f"without a mutant: {failed}")

        def try_one(mutant):
            file, line, source = mutant
            change, folder = changed_line(file, line, source), free.get()
            try:
                test = before.get((file, change))
                known = (file, change) in before and (file, change) in EQUIVALENT
                if test is None and not known:
                    test = seen_by(folder, file, source)
            finally:
                free.put(folder)
            row = {"file": file, "line": line, "seen_by": test, "change": change}
            row["equivalent"] = EQUIVALENT.get((file, row["change"]))
            print(json.dumps(row), flush=True)
            return row

        with ThreadPoolExecutor(args.processes) as executor:
            rows = list(executor.map(try_one, chosen))
    write(rows, total, args, (time.perf_counter() - start) / 60)
    if any(row["seen_by"] is None and not row["equivalent"] for row in rows):
        sys.exit("some mutants survived: benchmarks/results/mutants.md")


def write(rows, total, args, minutes):
    """The table by file, and the survivors."""
    alive = [row for row in rows if row["seen_by"] is None]
    same = [row for row in alive if row["equivalent"]]
    counted = len(rows) - len(same)
    seen = counted - (len(alive) - len(same))
    again = ", in which what had survived was tried again" if args.again else ""
    lines = [
        f"{len(rows)} of {total} mutants, seed {args.seed}: {seen} of {counted} seen,"
        f" **{seen / counted:.1%}**; {len(same)} more compute the same. {minutes:.0f}"
        f" minutes{again}.",
        "",
        "| file | mutants | seen | the same |",
        "|---|---|---|---|",
    ]
    for file in TESTS:
        of_file = [row for row in rows if row["file"] == file]
        n_seen = sum(row["seen_by"] is not None for row in of_file)
        n_same = sum(row in same for row in of_file)
        lines.append(f"| {file}.py | {len(of_file)} | {n_seen} | {n_same} |")
    for title, some in (("Survivors", [r for r in alive if not r["equivalent"]]),
                        ("The same", same)):  # fmt: skip
        lines += ["", f"## {title}", ""]
        lines += [
            f"- {row['file']}.py, line {row['line']}: `{row['change']}`"
            + (f": {row['equivalent']}" if row["equivalent"] else "")
            for row in some
        ] or ["none"]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mutants.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = json.dumps(rows, indent=1)
    (RESULTS / "mutants.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
