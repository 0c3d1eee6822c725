# Names of commands only: what they do is in the modules, what they use in conf/.
PYTHON ?= python3
PY := .venv/bin/python
SETUP = $(PYTHON) launch/setup_env.py
UNIT = -m pytest tests/unit -n 2
PROGRAMS = -m pytest tests/programs -n 2
COVER = $(addprefix --cov=,advantage bench data_prep integrations launch recipe rewards) --cov-report=term:skip-covered

# A value is what was typed: make expands no $ in it, and the shell takes it from the environment, unread.
VALUES = PROFILE MODEL RAW_DIR NAME ARGS OUT_DIR EXPERT TOKENIZER MAX_PROMPT_LENGTH SEEDS RUN RUNS PORT \
  A B JUDGE ROWS ROW DATA CORPORA MIN_SIZE RAY_ADDRESS RUN_ROOT JOB PYTHONS REPO DATASET IN OUT LABELS FIELDS \
  FORCE PUSH QUICK YES ENDPOINT
$(foreach v,$(VALUES),$(if $(filter undefined,$(origin $v)),,$(eval override export $v := $$(value $v))))
# What else was typed would be read by nobody: make takes any name.
$(foreach v,$(filter-out PYTHON MAKE% SHELL,$(.VARIABLES)),$(if $(filter command,$(firstword $(origin $v))),$(error there is no $v=... here: `make help` names what there is, and settings of a run go into ARGS="$v=...")))
# Bytecode is kept beside its source, in .venv and here, whatever the shell says (images for containers often say
# no): without it every process that is started compiles torch and vLLM anew, for some fifteen seconds.
export PYTHONDONTWRITEBYTECODE :=
need = $(if $($1),"$$$1",$(error $1=... is missing))
option = $(if $($2),$1 "$$$2")
# A switch is on where it is 1 and nothing else: FORCE=0 forces nothing.
switch = $(if $(filter 1,$($2)),$1)
SHORT = $(foreach v,MODEL RAW_DIR NAME,$(if $($v),$v="$$$v"))
# Several words in one value: `$(call add_words,ARGS) command` runs the command with them behind it.
add_words = $(PYTHON) launch/words.py $1
# make keeps the last RUN= of several; the process that runs this line has been given all of them.
EACH_RUN = $(shell tr '\0' '\n' < /proc/$$PPID/cmdline | sed -n "s/'/'\\\\''/g; s/^RUN=\(.*\)/'\1'/p")

.DEFAULT_GOAL := help
.PHONY: help setup train smoke-gpu test-layout plan download data bench leakage test test-unit test-settings test-programs lint soak ablate eval annotate verify chat publish lineage judge report compare clusters submit attach stop-job doctor lock lock-check site clean-runs

help: ## what there is to type
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Start
setup: ## build .venv, or bring it up to date: make setup [PROFILE=cpu|gpu] [FORCE=1 in place of another one]
	@$(SETUP) $(call option,--profile,PROFILE) $(call switch,--force,FORCE) $(if $(filter file,$(origin PYTHON)),,--exact-python)

doctor: ## what is installed, free, used and wrong; before setup, too
	@$(if $(wildcard $(PY)),$(PY),$(PYTHON)) launch/doctor.py

train: setup ## the whole method: make train [MODEL=Qwen3-8B] [RAW_DIR=...] [NAME=...] [ARGS="hydra overrides"]
	@$(call add_words,ARGS) $(PY) -m recipe.main $(SHORT)

plan: setup ## memory, hours and what would not fit, before anything starts: make plan MODEL=Qwen3-8B [ARGS=...]
	@$(call add_words,ARGS) $(PY) -m recipe.run.plan $(SHORT)

smoke-gpu: setup ## one small turn on a real GPU in some twelve minutes, and a file for an issue: make smoke-gpu [MODEL=...] [ARGS=...]
	@$(call add_words,ARGS) $(PY) -m recipe.smoke_gpu $(if $(MODEL),MODEL="$$MODEL")

##@ Data
download: setup ## MELD and EmoryNLP from their authors' repository, checked: make download RAW_DIR=...
	@$(PY) -m data_prep.download $(call need,RAW_DIR)

data: setup ## corpora to Parquet and a data card: make data RAW_DIR=... OUT_DIR=... [CORPORA="meld dailydialog"] [EXPERT=mixed] [TOKENIZER=folder [MAX_PROMPT_LENGTH=n]]; MODEL=... [ARGS=...]: a run's experts, asked ahead of it
	@$(if $(MODEL),,$(if $(ARGS),$(error ARGS are settings of a run, asked for with MODEL=...; CORPORA, EXPERT and TOKENIZER are what there is without)))
	@$(if $(MODEL),$(call add_words,ARGS) $(PY) -m recipe.ahead $(SHORT),$(if $(CORPORA),$(call add_words,CORPORA)) $(PY) -m data_prep.prepare $(call option,--raw-dir,RAW_DIR) $(call option,--expert,EXPERT) $(call option,--tokenizer,TOKENIZER) $(call option,--max-prompt-length,MAX_PROMPT_LENGTH) --out-dir $(call need,OUT_DIR) $(if $(CORPORA),--corpora))

leakage: setup ## test text that stands in training text: make leakage RAW_DIR=...
	@$(PY) -m data_prep.leakage --raw-dir $(call need,RAW_DIR)

##@ Judge the result
eval: setup ## score without training: make eval MODEL=... [ENDPOINT=https://host/v1] | RUN=<name> [RAW_DIR=...] [ARGS="evaluate.samples=8"]
	@$(call add_words,ARGS) $(PY) -m recipe.score $(SHORT) $(if $(RUN),RUN="$$RUN") $(if $(ENDPOINT),ENDPOINT="$$ENDPOINT")

annotate: setup ## emotions of your own dialogues: make annotate MODEL=... | RUN=<name>[:cold|rl|retrained] IN=dialogues.csv OUT=<folder or file> [LABELS="a,b,c"] [FIELDS="text=Message"]
	@$(call add_words,ARGS) $(PY) -m recipe.annotate --in $(call need,IN) --out $(call need,OUT) $(call option,--model,MODEL) $(call option,--run,RUN) $(call option,--labels,LABELS) $(call option,--fields,FIELDS)

report: setup ## write a run's page again, and compare several: make report RUN=<name> [RUN=<another>]
	@$(PY) -m recipe.pages.report $(or $(EACH_RUN),$(call need,RUN))

compare: setup ## runs side by side, as a table and a page: make compare RUNS="a b c"
	@$(call add_words,RUNS) $(PY) -m recipe.pages.compare

ablate: setup ## Table 2, setting after setting over seeds: make ablate [MODEL=...] [RAW_DIR=...] [NAME=...] [SEEDS=1,2,3]
	@$(call add_words,ARGS) $(PY) -m recipe.ablate $(SHORT) $(if $(SEEDS),SEEDS="$$SEEDS")

judge: setup ## two checkpoints compared by LLM judges, blind, in both orders: make judge RUN=<name> A=cold B=retrained (or A=early B=late of RL) [JUDGE=mixed] [ROWS=100]
	@$(PY) -m recipe.evaluation.judge $(call need,RUN) "$${A:-cold}" "$${B:-retrained}" $(call option,--judge,JUDGE) $(call option,--rows,ROWS) && $(PY) -m recipe.pages.report "$$RUN"

lineage: setup ## a prompt through all files, rollouts to SFT rows: make lineage RUN=<name> [ROW=<row_id>]
	@$(PY) -m recipe.pages.lineage $(call need,RUN) $(if $(ROW),"$$ROW")

clusters: setup ## personas in clusters, and what a run earns in each: make clusters RUN=<name> | DATA=<folder of make data> [MIN_SIZE=50]
	@$(SETUP) --profile analysis && .venv-analysis/bin/python -m recipe.pages.clusters $(if $(RUN),--run "$$RUN",--data $(if $(DATA),"$$DATA",$(error RUN=... or DATA=... is missing))) $(call option,--min-size,MIN_SIZE)
	@$(if $(RUN),$(PY) -m recipe.pages.report "$$RUN")

verify: setup ## is a run still what it was left as, and does B come from its rollouts? make verify RUN=<name>
	@$(PY) -m recipe.verify $(call need,RUN)

chat: setup ## talk with a persona: make chat RUN="<name>[:cold|rl|retrained] [another]" or MODEL=... [PORT=7860]
	@$(call add_words,RUN) $(PY) -m recipe.pages.chat $(call option,--model,MODEL) $(call option,--port,PORT) $(if $(RUN),--run)

##@ Hand on
publish: setup ## a run as Hugging Face folders; PUSH=1 pushes: make publish RUN=<name>[:cold|rl|retrained] [REPO=owner/name] [DATASET=owner/name] [PUSH=1]
	@$(PY) -m recipe.publish $(call need,RUN) $(call option,--repo,REPO) $(call option,--dataset,DATASET) $(call switch,--push,PUSH)

##@ Cluster
submit: setup ## train on a Ray cluster: make submit RAY_ADDRESS=http://head:8265 RUN_ROOT=/shared/runs [MODEL=...] [ARGS=...]
	@$(call add_words,ARGS) $(PY) -m launch.submit submit --address "$$RAY_ADDRESS" --run-root "$$RUN_ROOT" -- $(SHORT)

attach: setup ## follow a submitted run again: make attach RAY_ADDRESS=... JOB=...
	@$(PY) -m launch.submit attach --address "$$RAY_ADDRESS" --job "$$JOB"

stop-job: setup ## end a submitted run: make stop-job RAY_ADDRESS=... JOB=...
	@$(PY) -m launch.submit stop --address "$$RAY_ADDRESS" --job "$$JOB"

##@ Maintain
test: setup lint ## lint, unit tests, whole configurations and programs, then two real turns of the flywheel (17 to 25 minutes)
	@$(PY) $(UNIT) && $(PY) $(PROGRAMS) && $(PY) -m pytest tests/stack -m "not layout"

test-unit: setup ## the unit tests alone, and what they cover (minutes); PYTHONS="3.11 3.12": those repeat them, and the programs
	@$(PY) $(UNIT) -m "not settings" $(COVER)
	@$(if $(PYTHONS),$(call add_words,PYTHONS) $(PYTHON) launch/other_pythons.py)

test-settings: setup ## whole configurations, composed and checked: profiles, preflight, plan, what a resumed run may change
	@$(PY) $(UNIT) -m settings

test-programs: setup ## what starts whole programs: commands, make, the wheel, kills, a browser, other environments
	@$(PY) $(PROGRAMS)

test-layout: setup ## Appendix E's layout on CPUs: 4 FSDP ranks and a replica over all of them (20 GiB; half an hour on 2 cores)
	@$(PY) -m pytest tests/stack -m layout

lint: setup ## style and formatting (ruff), who imports whom (import-linter) and what of it, types (mypy)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(dir $(PY))lint-imports --no-logo --no-cache \
	  && $(PY) -m pytest tests/unit/test_house.py -q && $(PY) -m mypy

soak: setup ## kills, power losses and full disks, on runs without models (half an hour; QUICK=1 a minute)
	@OMP_NUM_THREADS=1 VERL_PLATFORM=cpu $(PY) -m tests.soak $(call switch,--short,QUICK)

bench: setup ## RL beside stock veRL and TRL, SFT beside a plain loop, answers beside generate: make bench RUN=<name>
	@$(SETUP) --profile trl && $(PY) -m bench $(call need,RUN)

site: ## the documentation as pages, in site/: every link checked, no network needed to read it
	@$(SETUP) --profile docs && NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --quiet && echo "site/index.html; with search: python3 -m http.server -d site"

lock: ## resolve requirements/<profile>.in into its lock file (PROFILE=cpu|gpu|analysis|trl|docs)
	@$(PYTHON) launch/lock.py

lock-check: ## does requirements/<profile>.in still resolve to its lock file? (PROFILE=cpu|gpu|analysis|trl|docs)
	@$(PYTHON) launch/lock.py --check

clean-runs: ## delete all runs, finished ones, too (asks first; YES=1 does not); of one run delete runs/<name>
	@$(if $(RUN)$(RUNS)$(NAME),$(error clean-runs deletes all runs; delete the folder runs/<name> to be rid of one))
	@$(if $(call switch,yes,YES),,du -sh runs/* 2>/dev/null; printf 'delete all of runs/? [y/N] '; read answer; [ "$$answer" = y ] || exit 1;) rm -rf runs
