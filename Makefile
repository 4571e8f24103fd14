# Everything runs in .venv, which is made on first use with the versions in constraints.txt. PYTHON=python3.12 chooses
# another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test quick portable coverage frameworks docs dist lint audit constraints test-latest browser postgres compilers clean

run: .venv/installed
	$(BIN)/bitsearch run --budget 4x

# All tests, then those that compare floats once more with the kernels of a processor without vector instructions.
test: .venv/installed-dev browser postgres compilers consumers lint
	$(BIN)/pytest
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 HYPOTHESIS_PROFILE=quick \
	 $(BIN)/pytest -m "$(FLOATS) and not processes and not exhaustive"
	@$(MAKE) --no-print-directory frameworks

# What a change can be checked with in a minute.
quick: .venv/installed-dev lint
	HYPOTHESIS_PROFILE=quick $(BIN)/pytest -m "not (training or processes or database or browser or exhaustive)"

# Tests that compare floats, with the kernels that other processors would make torch and oneDNN pick.
FLOATS := floats
HAS = grep -qsw $(1) /proc/cpuinfo
portable: .venv/installed-dev
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/pytest -m $(FLOATS)
	if $(call HAS,avx2); then ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/pytest -m $(FLOATS); fi
	if $(call HAS,avx512f); then ATEN_CPU_CAPABILITY=avx512 $(BIN)/pytest -m $(FLOATS); fi
	BITSEARCH_TEST_THREADS=2 $(BIN)/pytest --numprocesses 1 -m $(FLOATS)

# Apart from the tests, which it slows down by half.
coverage: .venv/installed-dev browser postgres compilers
	$(BIN)/pytest --cov=bitsearch --cov-report=term

# The tests of libraries that cannot be installed beside the others, each in its environment of `make consumers`, which
# stands on top of .venv. Everywhere else these tests are skipped.
frameworks: consumers
	@for library in norse sinabs; do \
	 if [ ! -e $(CONSUMERS)/$$library/installed ]; then echo "No $$library: ITS TESTS WERE SKIPPED."; continue; fi; \
	 echo "Tests of $$library:"; $(CONSUMERS)/$$library/bin/python -m pytest -n 0 tests/frameworks/test_$$library.py \
	  "tests/test_public_interface.py::test_other_examples_run[bitsearch.frameworks.$$library]" || exit 1; done

# The site, from docs/, docstrings, commands and reports; site/index.html opens in a browser without a server.
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build --strict --quiet

# Libraries that read exported files, and that networks are written with, each with the versions that it pins, on top of
# .venv: a few seconds of pure Python.
CONSUMERS := .venv-consumers
SINABS := sinabs==3.1.3 nir==1.0.4 nirtorch==2.0.2 pbr==7.1.3
consumers: .venv/installed-dev
	@$(MAKE) --no-print-directory $(CONSUMERS)/sinabs/installed PACKAGES="$(SINABS)" || \
	 echo "No sinabs: its tests will be skipped."
	@$(MAKE) --no-print-directory $(CONSUMERS)/norse/installed PACKAGES="norse==1.1.0" || \
	 echo "No Norse: its tests will be skipped."

$(CONSUMERS)/%/installed: .venv/installed-dev Makefile
	$(PYTHON) -m venv --clear --without-pip $(@D)
	@SITE='import site; print(site.getsitepackages()[0])'; $(BIN)/python -c "$$SITE" \
	 > "$$($(@D)/bin/python -c "$$SITE")/venv.pth"
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps $(PACKAGES) || (rm -rf $(@D); exit 1)
	@touch $@

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/oxlint --deny-warnings bitsearch/report

# The report is tested in a real browser. Without root, install chromium yourself; its tests are skipped otherwise.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	 (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null) || \
	 echo "No chromium: the browser tests will be skipped. Install it to run them."

# Studies of several machines are tested on a real PostgreSQL on loopback, which the tests start and stop.
postgres:
	@command -v pg_ctl >/dev/null || ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || \
	 (apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql >/dev/null) || \
	 echo "No PostgreSQL: the tests of several machines will be skipped. Install it to run them."

# The C of a network is compiled for this machine, and for a microcontroller that QEMU emulates; g++ is hls4ml's.
compilers:
	@(command -v cc && command -v g++ && command -v clang && command -v arm-none-eabi-gcc && command -v qemu-system-arm) >/dev/null || \
	 (apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc g++ libc6-dev clang gcc-arm-none-eabi \
	  libnewlib-arm-none-eabi qemu-system-arm >/dev/null) || \
	 echo "No C compilers and emulator: their tests will be skipped. Install them to run these."

audit: .venv/installed-dev
	$(BIN)/bandit --quiet --recursive bitsearch cli.py --configfile pyproject.toml
	$(BIN)/pip freeze --exclude-editable > .venv/installed.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement .venv/installed.txt

# Wheel and sdist, checked; then the wheel alone, in an empty environment of every supported Python that is here. Under
# pyenv a python3.12 on the PATH answers only where that version is selected, so all that are installed are.
dist: export PYENV_VERSION := $(shell pyenv versions --bare 2>/dev/null | paste -sd: -)
dist: .venv/installed-dev
	rm -rf dist
	$(BIN)/hatchling build >/dev/null
	$(BIN)/uv tool run --quiet twine==7.0.0 check --strict dist/*
	$(BIN)/uv tool run --quiet check-wheel-contents==0.6.3 dist/*.whl
	@for version in 3.11 3.12 3.13; do if $(BIN)/uv python find --no-python-downloads $$version >/dev/null 2>&1; \
	 then $(MAKE) --no-print-directory dist/python$$version || exit 1; \
	 else echo "No Python $$version: the wheel was not tried on it."; fi; done

# A first plan from an empty folder, with the versions of constraints.txt: found, exported, packed and compared.
dist/python%:
	$(BIN)/uv venv --quiet --no-python-downloads --python $* $@
	$(BIN)/uv pip install --quiet --python $@/bin/python --constraint constraints.txt dist/*.whl
	mkdir $@/folder
	cd $@/folder && ../bin/bitsearch --version && ../bin/bitsearch doctor >/dev/null && \
	 ../bin/bitsearch run --budget 4x --trials 2 --out run --set training.full_precision_epochs=2 --set training.epochs=1 \
	  >/dev/null && ../bin/bitsearch export run -o plan.json && ../bin/bitsearch deploy run && \
	 ../bin/bitsearch verify run/plan.packed.safetensors

# The newest versions that pyproject.toml allows, the same for every Python from 3.11 on and every system; run the tests
# after it.
constraints: .venv/installed-dev
	$(BIN)/uv pip compile pyproject.toml --quiet --extra dev --universal --python-version 3.11 --fork-strategy fewest \
	 --upgrade --no-annotate --custom-compile-command "make constraints" --output-file constraints.txt

# The same tests with the newest versions instead of those in constraints.txt, in an environment of their own.
test-latest: browser postgres compilers
	$(PYTHON) -m venv --clear .venv-latest
	.venv-latest/bin/pip install --quiet --editable '.[dev]'
	@sed 's/ *;.*//; s/_/-/g' constraints.txt > .venv-latest/constrained
	@.venv-latest/bin/pip freeze --exclude-editable | sed 's/_/-/g' | grep -vixFf .venv-latest/constrained \
	 > .venv-latest/newer || true
	@echo "Not as in constraints.txt:"; cat .venv-latest/newer
	.venv-latest/bin/pytest || (echo "Broken with what is not as in constraints.txt:"; cat .venv-latest/newer; exit 1)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt hatchling editables
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-latest .venv-consumers build dist site .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
