# Each target makes its own virtual environment when there is none. PYTHON may name another Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
# Two processes of one thread each: the tests' arrays are too small to share
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: demo test test-slow test-compile test-site test-all site lint gradcheck mutants benchmark benchmark-all clean

demo: .venv/installed
	$(BIN)/minivae demo

gradcheck: .venv/installed
	$(BIN)/minivae gradcheck

test: .venv/installed-test
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not site"

test-slow: .venv/installed-test
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Every CUDA kernel, compiled and linked for two generations of GPUs; there is none to run it
test-compile: .venv-compile/installed
	NO_SKIPS=1 $(ONE_THREAD) .venv-compile/bin/python -m pytest tests/test_cuda.py -k "not simulator"

test-all: test test-slow test-compile

# build/site/index.html: the derivations beside their code, for a browser without a network
site: .venv/installed-site
	$(ONE_THREAD) $(BIN)/python derivations/site/build.py build/site

test-site: site .venv/installed-test
	$(BIN)/python -m pytest -m site tests/test_site.py

# How strong the tests are: half an hour; writes benchmarks/results/mutants.md
mutants: .venv/installed-test
	$(BIN)/python tests/mutants.py

lint: .venv/installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# A training step against PyTorch and JAX, as many sizes as fit into eight minutes
benchmark: .venv-bench/installed
	.venv-bench/bin/python benchmarks/training.py --minutes 8

# Every size, evaluation, memory, kernels; writes what the README and benchmarks/results show
benchmark-all: .venv-bench/installed
	.venv-bench/bin/python benchmarks/subnormals.py
	.venv-bench/bin/python benchmarks/training.py
	.venv-bench/bin/python benchmarks/kernels.py --plot
	.venv-bench/bin/python benchmarks/roofline.py

clean:
	rm -rf .venv .venv-compile .venv-bench build dist *.egg-info .pytest_cache .hypothesis runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("minivae needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv-compile/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv-compile
	.venv-compile/bin/python -m pip install --quiet --editable '.[test,compile]'
	touch $@

.venv-bench/installed: setup.py pyproject.toml
	@echo 'installing PyTorch and JAX into .venv-bench: once, and they are large'
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --progress-bar on --editable '.[bench]'
	touch $@

.venv/installed-site: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[site]'
	touch $@

.venv/installed-lint: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[lint]'
	touch $@
