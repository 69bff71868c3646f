# make demo    a virtual environment, everything installed, the demo sweep on this machine, its report
# make test    all tests, those on a real SLURM included where a test bed can be set up (root on Debian)
# make chaos   faults by the hundred on the test bed, at most 60 minutes; goes on where it stopped
# make science simulated worlds, all arms and controls, at most 60 minutes; goes on where it stopped
# make coverage  how often intervals hold the truth, at most 20 minutes; goes on where it stopped
# make bench-embed  where the time of an extraction goes, to results/bench/embed.json
# make bench   how fast it is, beside other ways to train the same trials; at most 20 minutes
# make bench-full  the same in full size; two hours a call, goes on where it stopped
# make check   format, lint, types, import floors and unit tests, in under two minutes
# make wheelhouse, then  make demo WHEELHOUSE=wheelhouse  on a machine without internet

PYTHON ?= python3
BIN := .venv/bin
WHEELHOUSE ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt \
	$(if $(WHEELHOUSE),--no-index --find-links=$(WHEELHOUSE))
UNIT := -n 2 --dist loadscope -m "not slurm and not slow and not gpu"

# Commands start as an installed sweep does, with compiled modules, whatever the caller's shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test check clean wheelhouse format testbed chaos science bench-embed bench bench-full coverage

setup: .venv/.installed

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml .ci/constraints.txt | .venv/bin/python
	@echo "installing sweep and its packages into .venv (some minutes the first time)"
	@$(PIP) "setuptools>=77" && $(PIP) --no-build-isolation -e .
	@touch $@

.venv/.installed-dev: pyproject.toml .ci/constraints.txt | .venv/.installed
	@echo "installing what the tests need into .venv"
	@$(PIP) --no-build-isolation -e ".[dev]"
	@touch $@

demo: .venv/.installed
	@$(BIN)/sweep launch sweeps/demo.yaml
	@$(BIN)/sweep aggregate demo
	@$(BIN)/sweep report demo

testbed: .venv/.installed
	@$(BIN)/python -m cluster.testbed install || echo "SLURM tests will be skipped"

test: .venv/.installed-dev testbed
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/python -m pytest $(UNIT); unit=$$?; \
	$(BIN)/python -m pytest -m "slurm or slow or gpu" && exit $$unit

chaos: .venv/.installed-dev testbed
	@$(BIN)/python -m tests.chaos

science: .venv/.installed-dev
	@$(BIN)/python -m tests.science

bench: .venv/.installed-dev testbed
	@$(BIN)/python -m tests.bench

bench-full: .venv/.installed-dev testbed
	@$(BIN)/python -m tests.bench --full

coverage: .venv/.installed-dev
	@$(BIN)/python -m tests.coverage

check: .venv/.installed-dev
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/python -m pytest $(UNIT) -q

bench-embed: .venv/.installed-dev
	@$(BIN)/python -m tests.bench.embed

format: .venv/.installed-dev
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

wheelhouse: .venv/bin/python
	@$(BIN)/python -m pip download --quiet -d wheelhouse -c .ci/constraints.txt "setuptools>=77" .

clean:
	rm -rf .venv build wheelhouse *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
