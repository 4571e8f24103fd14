# Everything runs in .venv, which is made on first use. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test coverage lint audit browser postgres clean

run: .venv/installed
	$(BIN)/bitsearch run --budget 4x

test: .venv/installed-dev browser postgres lint
	$(BIN)/pytest

# Apart from the tests, which it slows down by half.
coverage: .venv/installed-dev browser postgres
	$(BIN)/pytest --cov=bitsearch --cov-report=term

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

audit: .venv/installed-dev
	$(BIN)/bandit --quiet --recursive bitsearch cli.py --configfile pyproject.toml
	$(BIN)/pip freeze --exclude-editable > .venv/installed.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement .venv/installed.txt

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
