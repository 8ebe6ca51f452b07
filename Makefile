# Two commands do everything, set-up included: `make quickstart` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

DATA ?= ../shared/data
TASK ?= gue/prom_core_all gue/prom_300_tata gue/tf_0 gue/mouse_3 lucaone_type/ncrnafam_nrc lucaone_type/protstab_tape

.PHONY: quickstart test results torture lint docs venv clean test-%

quickstart: venv ## the whole way through on the simulated organism; ends with a report
	$(BIN)/llama-gene quickstart

test: venv ## the test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 8

test-%: venv ## the tests of one room: make test-tokenizer
	$(BIN)/python -m pytest tests/$*

results: venv ## real tasks from scratch and one table of them: make results TASK=gue/tf_0 DATA=../shared/data
	for task in $(TASK); do \
	  $(BIN)/llama-gene quickstart --recipe configs/recipes/real-task.yaml --data $(DATA) names.card=$$task out=runs/results/$$task || exit 1; \
	done
	$(BIN)/llama-gene eval leaderboard $(TASK:%=runs/results/%/metrics.json) --out runs/results/leaderboard --overwrite

torture: venv ## every long command, killed twenty times at random moments, and its inputs damaged
	LLAMA_GENE_KILLS=20 $(BIN)/python -m pytest tests/test_kills.py tests/test_edges.py

lint: venv ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: venv ## the pages as a site, built without a network: runs/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "runs/site/index.html"

venv: .venv/installed ## the virtual environment alone

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; call make with PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean: ## remove the environment and all runs
	rm -rf .venv runs
