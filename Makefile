# Two commands do everything, set-up included: `make quickstart` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

DATA ?= ../shared/data
TASK ?= gue/prom_300_tata gue/splice gue/prom_core_all gue/tf_0 lucaone_type/ncrnafam_nrc gue/mouse_3 \
  lucaone_type/protstab_tape gue/tf_3 gue/emp_H3
SEEDS ?= 0 1 2

.PHONY: quickstart test results torture gpu sbom docs lint venv clean test-%

quickstart: venv ## the whole way through on the simulated organism; ends with a report
	$(BIN)/llama-gene quickstart
	@echo "or one trained on real human promoters: llama-gene chat --model examples/models/core-promoter"

test: venv ## the test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 8

test-%: venv ## the tests of one room: make test-tokenizer
	$(BIN)/python -m pytest tests/$*

results: venv ## real tasks from scratch and one table of them: make results TASK=gue/tf_0 SEEDS=0
	for seed in $(SEEDS); do for task in $(TASK); do \
	  $(BIN)/llama-gene quickstart --recipe configs/recipes/real-task.yaml --data $(DATA) task=$$task seed=$$seed \
	    --out runs/results/$$task/$$seed || exit 1; \
	done; done
	$(BIN)/llama-gene eval leaderboard $(foreach task,$(TASK),$(SEEDS:%=runs/results/$(task)/%/metrics.json)) \
	  --out runs/results/leaderboard --overwrite

torture: venv ## every attack in its long form: kills, damage, a million spoilt files, fifty users, a hundred thousand steps
	LLAMA_GENE_KILLS=20 LLAMA_GENE_MUTANTS=29000 LLAMA_GENE_LONG=1 $(BIN)/python -m pytest --timeout 14400 tests/robustness

sbom: venv ## the installed packages with their licences (CycloneDX), and known vulnerabilities where an index can be reached
	$(PYTHON) -m venv runs/sbom
	runs/sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom pip-audit
	runs/sbom/bin/cyclonedx-py environment --output-file runs/sbom.json $(BIN)/python
	runs/sbom/bin/pip-audit --progress-spinner off --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  || echo "pip-audit: vulnerabilities above, or no index to ask"

gpu: venv ## what nobody can check without a GPU, in eight minutes on one (docs/gpu.md); make gpu SMOKE=1 tries it on a CPU
	$(BIN)/python benchmarks/gpu.py $(if $(SMOKE),--smoke --out runs/gpu-smoke)

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
