# Two commands do everything on a fresh machine with Python (3.11 or newer) and make:
#   make run    the whole story: proofs, one comparison, two short runs of a real language model, one report
#   make test   installs what the tests need, and runs lint, types and tests
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# By file: what one test compiles serves its neighbours. Every process may hold two gigabytes of compiled programs.
DEFAULT = "not slow and not network and not reference and not ray"
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile -p no:benchmark
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run story proofs compare test test-slow test-network test-reference test-ray bench readme page clean

# Two solutions a half and six updates: what two cores do in minutes. A checkpoint has 1.6 GB: each run saves one, at its
# end or when it is stopped, and that of the first is not kept. Where the weights cannot be fetched, the tiny model
# stands in.
STORY = --updates 6 --set num_pairs=2 --set max_tokens=256 --set num_problems=100 --set measures.probe_pairs=4 \
	--set measures.alignment_every=3 --set checkpoint_every=6 --out out/runs/smollm2
TELL = echo "make run writes at most 4 GB: $(VENV) 1.3 GB, models/smollm2 0.6, out/ 1.7 (one checkpoint)."; \
	echo "make clean takes it away. Free here: $$(df -h . | awk 'NR == 2 { print $$4 }')."

run:
	@$(TELL)
	@$(MAKE) --no-print-directory story

story: $(VENV)/experiments
	$(BIN)/python -m derivation.check
	@mkdir -p out
	$(BIN)/python -m numerics.compare --plot out/drift.svg
	@if $(BIN)/python -m experiments fetch smollm2; then \
		set -x; \
		$(BIN)/python -m experiments run --preset smollm2 --arm accumulated --set keep=0 $(STORY) && \
		$(BIN)/python -m experiments run --preset smollm2 --arm sequential --set keep=1 $(STORY) && \
		$(BIN)/python -m experiments report out/runs/smollm2 --out out/report; \
	else \
		echo "The weights could not be fetched; the tiny model stands in for SmolLM2."; \
		set -x; $(BIN)/python -m experiments run --preset tiny --out out/runs/tiny && \
		$(BIN)/python -m experiments report out/runs/tiny --out out/report; \
	fi

proofs: $(VENV)/base
	$(BIN)/python -m derivation.check

compare: $(VENV)/numerics
	$(BIN)/python -m numerics.compare

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error
	$(BIN)/python -m pytest -m $(DEFAULT) $(PARALLEL)

test-slow: $(VENV)/dev
	$(BIN)/python -m pytest -m slow $(PARALLEL)

# Each needs what its name says; a test skips, with the reason, where something is missing.
test-network: $(VENV)/dev
	$(INSTALL) --editable '.[dev,hub]'
	$(BIN)/python -m pytest -m network

test-reference: $(VENV)/reference
	$(BIN)/python -m pytest -m reference

test-ray: $(VENV)/dev
	$(INSTALL) --editable '.[dev,ray]'
	$(BIN)/python -m pytest -m ray

bench: $(VENV)/dev
	$(BIN)/python -m pytest benchmarks

readme: $(VENV)/base
	$(BIN)/python -m derivation.check --readme README.md

page: $(VENV)/base
	@mkdir -p out
	$(BIN)/python -m derivation.check --html out/proofs.html

$(VENV)/base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed; $(PYTHON) is {sys.version.split()[0]}. Try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/numerics: $(VENV)/base
	$(INSTALL) --editable '.[numerics]'
	@touch $@

$(VENV)/experiments: $(VENV)/base
	$(INSTALL) --editable '.[experiments]'
	@touch $@

$(VENV)/dev: $(VENV)/base
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/reference: $(VENV)/dev
	$(INSTALL) --editable '.[reference]'
	@touch $@

# What the commands of the README and of this file make, where they make it. Environments of other names count by the
# stamp that is left in them. Models and data of other names were brought by the user, and stay.
MADE = $(patsubst %/pyvenv.cfg,%,$(wildcard $(VENV)/pyvenv.cfg .venv/pyvenv.cfg)) \
	$(patsubst %/base,%,$(wildcard .venv*/base)) \
	$(wildcard out runs models/smollm2 models/tiny models/.*.part data/gsm8k data/.*.part build dist *.egg-info \
	.pytest_cache .ruff_cache .hypothesis .benchmarks .jax_cache) \
	$(wildcard verdicts.json proofs.html drift.pdf pairs.jsonl scores.jsonl samples.jsonl)
ROOMS = benchmarks console derivation experiments numerics tests

clean:
	@set -- $(sort $(MADE)) $$(find $(ROOMS) -name __pycache__ -prune); \
	if [ $$# -eq 0 ]; then echo "There is nothing to take away."; exit; fi; \
	echo "make clean takes away:"; du -sch "$$@"; \
	rm -rf "$$@"; \
	rmdir models data 2>/dev/null || true; \
	for kept in models/* data/*; do if [ -e "$$kept" ]; then echo "left as it is: $$kept"; fi; done
