# The commands of this repository. `make demo` and `make test` need Python 3.11 or 3.12, make and git, nothing else.

SHELL := /bin/bash
PYTHON_IN_VENV := .venv/bin/python
INSTALLED := .venv/.installed
LINTED := src tests training benchmarks

.PHONY: help setup demo test test-slow lint types clean
.DEFAULT_GOAL := help

help:
	@echo "make demo                     the whole pipeline on generated reef scenes (minutes on 2 cores)"
	@echo "make demo DATA=FOLDER         the same on your own labelled pictures; NAMES=a,b,c if no file names the classes,"
	@echo "                              ROOT=FOLDER for where the results go"
	@echo "make test                     the tests (twenty minutes on 2 cores); make test-slow: those that take long"
	@echo "make lint | types             style and type checks"
	@echo "make setup                    only set up .venv"
	@echo "make clean                    remove .venv and build products (not your workspaces)"

setup: $(INSTALLED)

$(INSTALLED): constraints.txt pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" scripts/setup.sh

# As they were typed: no make or shell looks for variables and quotes in them.
override export DATA := $(value DATA)
override export NAMES := $(value NAMES)
override export ROOT := $(value ROOT)

demo: $(INSTALLED)
	@scripts/demo.sh

# One thread a process: two test processes with as many threads as cores each only wait for one another.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest -n 2 --dist worksteal -m "not slow" $(PYTEST)

test-slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PYTHON_IN_VENV) -m pytest -n 2 --dist worksteal -m slow $(PYTEST)

lint: $(INSTALLED)
	.venv/bin/ruff check $(LINTED)
	.venv/bin/ruff format --check $(LINTED)

types: $(INSTALLED)
	.venv/bin/mypy

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests training benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
