# make demo: a JupyterHub with cellxgene on this machine.   make test: every check there is.   make help: the rest.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench lock clean environment

PORT ?= 8000
PASSWORD ?= cellxgene
TESTS ?= tests
export PYTHON PORT PASSWORD

# Byte code makes cellxgene start in half the time; and the installed package is used and tested, not this folder.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help:
	@echo 'make demo    a JupyterHub with cellxgene on http://127.0.0.1:8000 (make demo PORT=9000 PASSWORD=...)'
	@echo 'make test    all checks and tests (one file: make test TESTS=tests/doors/test_hub.py)'
	@echo 'make check   only ruff and mypy'
	@echo 'make bench   what the gateway and labels cost, as tables (about three minutes)'
	@echo 'make lock    choose newer versions of the requirements'
	@echo 'make clean   remove .venv and build'
	@echo 'PYTHON=/path/to/python3 chooses the Python, CHROMIUM=/path/to/chromium the browser of the tests.'

environment:
	@requirements/environment

demo: environment
	@exec "$$(readlink -f .venv)/bin/python" jupyter_config/demo.py

check: environment
	ruff check .
	ruff format --check .
	mypy

bench: environment
	@python benchmarks/gateway.py
	@python benchmarks/labels.py

test: environment check
	@mkdir -p build/artefacts
	@echo '==> Running the tests (about 10 minutes); pictures are kept in build/artefacts'
	browser=$$(CHROMIUM='$(CHROMIUM)' requirements/chromium) && CHROMIUM=$$browser pytest $(TESTS)

lock: environment
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --upgrade --override requirements/overrides.txt --extra dev -o requirements/lock.txt setup.cfg
	npm install --prefix requirements --package-lock-only --omit-lockfile-registry-resolved --silent

clean:
	rm -rf "$$(readlink -f .venv)" "$$(readlink -f .venv)-demo" .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
