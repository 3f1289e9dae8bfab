# Two commands: `make demo` and `make test`. Each sets up what it needs, on a machine with Python 3.11+ and nothing else.
PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE # else each of the tests' processes would compile all that it loads
STAMP := .venv/.ready

.PHONY: demo test lint bench lock ready clean

demo: $(STAMP)
	$(BIN)/kts run demo --out runs/demo --overwrite

test: $(STAMP) lint
	@test -n "$$KUBECONFIG" && test -n "$$KTS_IMAGE_LOADER" || echo "note: no cluster (KUBECONFIG and KTS_IMAGE_LOADER must name one): its tests will skip"
	$(BIN)/python -m pytest -rs --durations 25 -n auto --no-loadscope-reorder -m "not alone"
	$(BIN)/python -m pytest -rs --durations 25 -m alone $$(grep -rl --include='test_*.py' mark.alone tests | sort)

lint: $(STAMP)
	$(BIN)/ruff check src tests bench examples
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

ready: $(STAMP)

bench: $(STAMP)
	$(BIN)/python -m bench

$(STAMP): requirements/all.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; try: make PYTHON=python3.12"; exit 4; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/all.txt -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# Pins and hashes, without the addresses they came from. The variants of the image agree with it in what they share.
PINS := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(STAMP)
	$(BIN)/uv pip compile $(PINS) --extra test pyproject.toml requirements/build.in -o requirements/all.txt
	$(BIN)/uv pip compile $(PINS) requirements/image.in -c requirements/all.txt -o requirements/image.txt
	for extra in torch cupy; do \
		$(BIN)/uv pip compile $(PINS) requirements/image.in requirements/image-$$extra.in -c requirements/image.txt -c requirements/all.txt -o requirements/image-$$extra.txt || exit; \
	done
	$(BIN)/uv pip compile $(PINS) pyproject.toml -c requirements/image.txt -c requirements/all.txt -o requirements/kts.txt
	$(BIN)/uv pip compile $(PINS) requirements/cc.in -o requirements/cc.txt
	$(BIN)/uv pip compile $(PINS) requirements/uv.in -o requirements/uv.txt

clean:
	rm -rf .venv build dist runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
