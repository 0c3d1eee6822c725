# Names of commands only: what they do is in the modules, what they use in conf/.
PYTHON ?= python3
PY := .venv/bin/python
LOCK = requirements/$(or $(PROFILE),cpu).lock
COMPILE = .uv/bin/uv pip compile $(LOCK:.lock=.in) --override requirements/overrides-$(or $(PROFILE),cpu).txt \
  $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --no-header --no-annotate
UNIT = $(PY) -m pytest -m "not stack" -n 2
SHORT = $(if $(MODEL),MODEL=$(MODEL)) $(if $(RAW_DIR),RAW_DIR=$(RAW_DIR)) $(if $(NAME),NAME=$(NAME))

.DEFAULT_GOAL := help
.PHONY: help setup train plan download data bench leakage test test-unit lint ablate eval chat judge report compare clusters submit attach stop-job doctor lock lock-check clean-runs

help: ## what there is to type
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## build .venv from the pinned requirements (PROFILE=cpu|gpu, default: what the machine has)
	@$(PYTHON) launch/setup_env.py $(if $(PROFILE),--profile $(PROFILE))

train: setup ## the whole method: make train [MODEL=Qwen3-8B] [RAW_DIR=...] [NAME=...] [ARGS="hydra overrides"]
	@$(PY) -m recipe.main $(SHORT) $(ARGS)

plan: setup ## memory, hours and what would not fit, before anything starts: make plan MODEL=Qwen3-8B [ARGS=...]
	@$(PY) -m recipe.run.plan $(SHORT) $(ARGS)

leakage: setup ## test text that stands in training text: make leakage RAW_DIR=...
	@$(PY) -m data_prep.leakage --raw-dir $(or $(RAW_DIR),$(error RAW_DIR=... is missing))

download: setup ## MELD and EmoryNLP from their authors' repository, checked: make download RAW_DIR=...
	@$(PY) -m data_prep.download $(or $(RAW_DIR),$(error RAW_DIR=... is missing))

data: setup ## corpora to Parquet and a data card: make data RAW_DIR=... OUT_DIR=... [EXPERT=mixed] [TOKENIZER=folder [MAX_PROMPT_LENGTH=n]]
	@$(PY) -m data_prep.prepare $(if $(RAW_DIR),--raw-dir $(RAW_DIR)) $(if $(EXPERT),--expert $(EXPERT)) $(if $(TOKENIZER),--tokenizer $(TOKENIZER)) $(if $(MAX_PROMPT_LENGTH),--max-prompt-length $(MAX_PROMPT_LENGTH)) --out-dir $(or $(OUT_DIR),$(error OUT_DIR=... is missing))

bench: setup ## time and memory of make data on made-up corpora: make bench OUT_DIR=... [SIZES="1000000 10000000"]
	@$(PY) -m bench.prepare_memory $(or $(OUT_DIR),$(error OUT_DIR=... is missing)) $(if $(SIZES),--utterances $(SIZES))

test: setup lint ## all tests: unit tests, then one real turn of the flywheel (12 to 17 minutes)
	@$(UNIT) && $(PY) -m pytest -m stack

test-unit: setup ## the unit tests alone (2 minutes)
	@$(UNIT)

lint: setup ## style and formatting (ruff), who imports whom (import-linter), types (mypy)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(dir $(PY))lint-imports --no-logo --no-cache && $(PY) -m mypy

ablate: setup ## Table 2, setting after setting over seeds: make ablate [MODEL=...] [RAW_DIR=...] [NAME=...] [SEEDS=1,2,3]
	@$(PY) -m recipe.ablate $(SHORT) $(if $(SEEDS),SEEDS=$(SEEDS)) $(ARGS)

eval: setup ## score without training: make eval MODEL=... | RUN=<name> [RAW_DIR=...] [ARGS="evaluate.samples=8"]
	@$(PY) -m recipe.score $(SHORT) $(if $(RUN),RUN=$(RUN)) $(ARGS)

chat: setup ## talk with a persona: make chat RUN="<name>[:cold|rl|retrained] [another]" or MODEL=... [PORT=7860]
	@$(PY) -m recipe.pages.chat $(if $(RUN),--run $(RUN)) $(if $(MODEL),--model $(MODEL)) $(if $(PORT),--port $(PORT))

judge: setup ## two checkpoints compared by LLM judges, blind, in both orders: make judge RUN=<name> A=cold B=retrained [JUDGE=mixed] [ROWS=100]
	@$(PY) -m recipe.evaluation.judge $(or $(RUN),$(error RUN=... is missing)) $(or $(A),cold) $(or $(B),retrained) $(if $(JUDGE),--judge $(JUDGE)) $(if $(ROWS),--rows $(ROWS)) && $(PY) -m recipe.pages.report $(RUN)

# make keeps the last RUN= of several; the process that runs this line has been given all of them.
report: setup ## write a run's page again, and compare several: make report RUN=<name> [RUN=<another>]
	@$(PY) -m recipe.pages.report $(or $(shell tr '\0' '\n' < /proc/$$PPID/cmdline | sed -n 's/^RUN=//p'),$(RUN))

compare: setup ## runs side by side, as a table and a page: make compare RUNS="a b c"
	@$(PY) -m recipe.pages.compare $(RUNS)

clusters: setup ## personas in clusters, and what a run earns in each: make clusters RUN=<name> | DATA=<folder of make data> [MIN_SIZE=50]
	@$(PYTHON) launch/setup_env.py --profile analysis && .venv-analysis/bin/python -m recipe.pages.clusters $(if $(RUN),--run $(RUN),--data $(or $(DATA),$(error RUN=... or DATA=... is missing))) $(if $(MIN_SIZE),--min-size $(MIN_SIZE))
	@$(if $(RUN),$(PY) -m recipe.pages.report $(RUN))

submit: setup ## train on a Ray cluster: make submit RAY_ADDRESS=http://head:8265 RUN_ROOT=/shared/runs [MODEL=...] [ARGS=...]
	@$(PY) -m launch.submit submit --address "$(RAY_ADDRESS)" --run-root "$(RUN_ROOT)" -- $(SHORT) $(ARGS)

attach: setup ## follow a submitted run again: make attach RAY_ADDRESS=... JOB=...
	@$(PY) -m launch.submit attach --address "$(RAY_ADDRESS)" --job "$(JOB)"

stop-job: setup ## end a submitted run: make stop-job RAY_ADDRESS=... JOB=...
	@$(PY) -m launch.submit stop --address "$(RAY_ADDRESS)" --job "$(JOB)"

doctor: ## what is installed, free, used and wrong; before setup, too
	@$(if $(wildcard $(PY)),$(PY),$(PYTHON)) launch/doctor.py

lock: .uv/bin/uv ## resolve requirements/<profile>.in into its lock file (PROFILE=cpu|gpu|analysis)
	@$(COMPILE) -o $(LOCK)

lock-check: .uv/bin/uv ## does requirements/<profile>.in still resolve to its lock file? (PROFILE=cpu|gpu|analysis)
	@cp $(LOCK) .uv/checked.lock && $(COMPILE) -q -o .uv/checked.lock && diff $(LOCK) .uv/checked.lock && echo "$(LOCK) is what its .in resolves to"

.uv/bin/uv:
	@$(PYTHON) -m venv .uv && .uv/bin/pip install -q uv==0.13.9

clean-runs: ## delete all runs (asks first; YES=1 does not)
	@$(if $(YES),,printf 'delete runs/? [y/N] '; read answer; [ "$$answer" = y ] || exit 1;) rm -rf runs
