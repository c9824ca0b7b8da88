# Each target does all the set-up it needs on a machine that has python3, make and git.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Processes that share the tests; each needs a core and 3 GB.
WORKERS ?= 2
# Tests start a hundred processes: without stored bytecode each compiles the project anew, half a second of CPU time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test e2e check bench lock clean

run: $(READY)  ## one retrain of the bundled sample
	$(BIN)/riseorfall retrain

test: $(READY)  ## the fast tests, in random order
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

e2e: $(READY)  ## the slow tests: real servers, a real browser, processes killed at work, simulations
	$(BIN)/pytest -m e2e --numprocesses $(WORKERS) --dist loadfile $(ARGS)

check: $(READY)  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## speed and scale, as ratios of two programs that alternate
	test -x .venv-bench/bin/python || $(BIN)/python -m venv .venv-bench
	-.venv-bench/bin/pip install --quiet --disable-pip-version-check 'pip>=25.1' && .venv-bench/bin/pip install --quiet --group bench
	$(BIN)/python benchmarks/run.py

lock: $(READY)  ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

clean:  ## everything that can be made again; the bars and the runs stay
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	awk '/^[^ ]/ {wanted = /^uv==/} wanted' requirements.lock > .venv/uv.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint requirements.lock --group dev \
		--editable '.[distributed]'
	touch $@
