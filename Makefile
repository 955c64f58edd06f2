# make demo: meta-train, evaluate and use a learned optimizer (5 minutes).
# make test: the test suite.      make setup: what both need.
# make test-slow: what `make test` leaves out, such as 20 kills instead of 4.
# make docs: the pages of docs/, in build/docs/.
# make backends: JAX and PyTorch, so that `make test` tests on them too.
PYTHON ?= python3
EXTRAS := test,integrations
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet
RUN := runs/demo

# TensorFlow's start-up remarks (no GPU, which instructions) are noise here.
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: backends demo docs lint setup test test-slow

setup: $(VENV)/installed

$(VENV)/installed: setup.py .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint .ci/constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

backends:
	rm -f $(VENV)/installed
	$(MAKE) setup EXTRAS=test,integrations,backends

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict \
		--config-file .mkdocs.yml

$(VENV)/docs: $(VENV)/installed
	$(PIP) --constraint .ci/constraints.txt --editable ".[docs]"
	touch $@

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Most programs of the tests run a few times: XLA need not optimize them.
test: export XLA_FLAGS ?= --xla_backend_optimization_level=0 \
	--xla_llvm_disable_expensive_passes=true
test: setup
	$(PY) -m pytest --numprocesses 2 --dist worksteal --durations 40 \
		-m "not slow"

test-slow: setup
	$(PY) -m pytest --numprocesses 2 --dist worksteal --durations 40 -m slow

# An earlier demo is moved aside, never overwritten.
demo: setup
	if [ -e $(RUN) ]; then mv $(RUN) $(RUN)-$$(date +%Y%m%d-%H%M%S); fi
	$(PY) -m train.meta_train --output_dir=$(RUN)
	$(PY) -m train.evaluate --preset=$(RUN)/preset \
		--output=$(RUN)/evaluation.json
	$(PY) -m train.evaluate --preset=$(RUN)/preset --horizon=200 \
		--output=$(RUN)/evaluation_200.json
	$(PY) -m train.plot --input=$(RUN)/evaluation.json \
		--output=$(RUN)/curves.png
	$(PY) -m train.plot --input=$(RUN)/evaluation_200.json \
		--output=$(RUN)/curves_200.png
	$(PY) -m train.fit --preset=$(RUN)/preset
	@echo "Everything is in $(RUN)/; the curves are $(RUN)/curves.png."
