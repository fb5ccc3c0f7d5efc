# golf's commands. Each of them makes its own environment first (.venv, every version pinned by constraints.txt);
# the second time that costs nothing. Variables: ARGS, PYTHON, TORCH, WORKERS (make help).
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-from
EXTRAS := dev,sweep,ray,slurm,gpu,kernels
WORKERS ?= 2
ARGS ?=
TORCH ?=

# Made in another folder (a moved or copied checkout), or for another TORCH than asked for: make it anew.
REMAKE :=
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell sed -n 1p $(STAMP)),$(CURDIR))
REMAKE := yes
endif
ifneq ($(TORCH),)
ifneq ($(shell sed -n 2p $(STAMP)),torch $(TORCH))
REMAKE := yes
endif
endif
endif

.PHONY: help install demo test lint format bench clean distclean FORCE

help: ## what can be made
	@echo 'golf: train, compress and score language models that fit into 16,000,000 bytes'
	@echo
	@sed -n 's/^\([a-z]*\):.*## /  make \1 - /p' Makefile | awk -F' - ' '{ printf "%-16s %s\n", $$1, $$2 }'
	@echo
	@echo '  ARGS="…"        further arguments, as in: make demo ARGS="budget.max_tokens=200000", make test ARGS="-k ledger"'
	@echo '  PYTHON=…        the Python (3.11 to 3.13) the environment is made from'
	@echo '  TORCH=…         another torch than the pinned one: a version, or "system" for the one PYTHON already has'
	@echo '  WORKERS=$(WORKERS)       test processes'

install: $(STAMP) ## the environment in .venv

FORCE:

$(STAMP): pyproject.toml constraints.txt $(if $(REMAKE),FORCE)
	@python=$$(PYTHON='$(PYTHON)' sh scripts/python.sh) || exit 2; \
	if [ -n '$(REMAKE)' ] || ! $(BIN)/python -c 'import pip' >/dev/null 2>&1; then \
	    echo "golf: making $(VENV) with $$($$python --version)"; \
	    "$$python" -m venv --clear $(if $(filter system,$(TORCH)),--system-site-packages) $(VENV) || exit 2; \
	fi
	@echo 'golf: installing (once; some minutes where torch has to be downloaded)'
	@cp constraints.txt $(VENV)/constraints.txt
ifneq ($(TORCH),)
	@grep -v -E '^(torch|triton|cuda-|nvidia-[^m])' constraints.txt > $(VENV)/constraints.txt
ifneq ($(TORCH),system)
	@echo 'torch==$(TORCH)' >> $(VENV)/constraints.txt
endif
endif
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c $(VENV)/constraints.txt setuptools
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c $(VENV)/constraints.txt --no-build-isolation \
	    -e '.[$(EXTRAS)]'
	@printf '%s\n' '$(CURDIR)' 'torch $(TORCH)' > $(STAMP)
	@echo "golf: ready; commands are in $(BIN) (source $(BIN)/activate)"

demo: install ## train a small model on the sample corpus, compress it, score it, write report.html
	@$(BIN)/python train.py experiment=demo $(ARGS)

test: install ## the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: install ## ruff, pyright and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: install ## let ruff format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## every benchmark, results in benchmarks/results
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## remove caches and build output; runs, data and .venv stay
	rm -rf build golf.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache outputs
	find golf tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf $(VENV)
