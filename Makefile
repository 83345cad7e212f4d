# `make demo` and `make test` do all their own set-up, from nothing but make and a Python of at least 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PACKAGES := agents configs envs plasticity runners

.PHONY: demo test check lint format install benchmark tracking attribution experts rliable fuzz soak clusters full clean plasticity supervised results
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

demo: $(INSTALLED)  ## train on a short task sequence, about a minute, and say how to watch
	$(BIN)/python runners/continual_rl.py --env minigrid-seq --reg spectral --num-tasks 6 --steps-per-task 100000 --out runs/demo
	@echo
	@echo "Watch it:  $(BIN)/tensorboard --logdir runs/demo   and open http://localhost:6006"

plasticity: $(INSTALLED)  ## a loss of plasticity, its cause and its cure in one picture, in some six minutes on two cores
	$(BIN)/python runners/sweep.py --experiment plasticity
	$(BIN)/python runners/explain.py runs/plasticity/cartpole-rotate

supervised: $(INSTALLED)  ## methods × random labels on digits: the first thing to run a method of yours on, some minutes
	$(BIN)/python runners/sweep.py --experiment supervised
	$(BIN)/python runners/explain.py runs/supervised/digits-random-labels
	$(BIN)/python runners/report.py runs/supervised/digits-random-labels

results: $(INSTALLED)  ## every table and picture of results/ anew, from the rows that are kept there
	$(BIN)/python runners/results.py

test: $(INSTALLED)  ## the tests, the slow ones included; of some that are alike one (make full has all)
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: lint  ## format, lint, types, fast tests
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@rm -rf build/types && mkdir -p build/types/neoteny
	@cd build/types/neoteny && ln -s ../../../neoteny/*.py $(PACKAGES:%=../../../%) .  # mypy wants to see them where they are installed
	$(BIN)/mypy

format: $(INSTALLED)  ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(INSTALLED)  ## throughput against stock stable-baselines3, and the cost of each regularizer
	$(BIN)/python runners/benchmark.py

tracking: $(INSTALLED)  ## how near the estimates of singular values are while agents train: a table, in half an hour
	TRACKING=1 $(BIN)/python -m pytest -s -k "everywhere or tie" tests/plasticity/penalties/test_tracking.py
	TRACKING=1 $(BIN)/python -m pytest -k "clips or clipping" tests/agents/test_joins.py

attribution: $(INSTALLED)  ## agents damaged on purpose: is the damaged part named, each in five agents? tables, in half an hour
	FULL=1 ATTRIBUTION=5 $(BIN)/python -m pytest -s -m slow tests/runners/attribution/test_damaged.py

experts: $(INSTALLED)  ## how often Meta-World's scripted policies succeed in cw10's tasks, and random actions, in ten minutes
	EXPERTS=10 $(BIN)/python -m pytest -s tests/envs/test_metaworld_success.py
	FULL=1 EXPERTS=10 $(BIN)/python -m pytest -k cw10 tests/envs/test_presets.py

rliable:  ## the numbers of the library rliable that tests compare with, anew; in an environment of its own, in two minutes
	$(PYTHON) -m venv build/rliable
	build/rliable/bin/python -m pip install --quiet --disable-pip-version-check rliable==1.2.0 'pandas<3'
	build/rliable/bin/python tests/runners/reports/rliable_numbers.py

full: $(INSTALLED)  ## all tests, also those that are one of several and left out for time
	FULL=1 TRACKING=1 EXPERTS=2 CUTS=24 KILLS=40 $(BIN)/python -m pytest -n 2 --dist worksteal

fuzz: $(INSTALLED)  ## 10,000 checkpoints and 10,000 files of settings, damaged and forged: none may do more than be refused
	FULL=1 MUTATIONS=10000 $(BIN)/python -m pytest --timeout 7200 tests/agents/test_mutated_checkpoints.py tests/runners/experiments/test_mutated_yaml.py

soak: $(INSTALLED)  ## 1,000 kills of PPO, DQN, SAC and recurrent PPO, 200 power cuts, 200 pairs begun together, in an hour
	FULL=1 KILLS=1000 CUTS=200 PAIRS=200 SIGNALS=20 SWITCHES=1020 $(BIN)/python -m pytest -s --timeout 7200 \
	  $(addprefix tests/runners/runs/,test_pairs.py test_kills.py test_power_cuts.py test_soon_stopped.py test_memory.py)

clusters: $(INSTALLED)  ## the same runs at home, on a Ray cluster that everything happens to, and on Slurm, in half an hour
	FULL=1 CLUSTERS=1 $(BIN)/python -m pytest -s --timeout 3600 tests/runners/engines

install: $(INSTALLED)  ## the package and its tools, in .venv

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:  ## remove the environment and all caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
