# `make demo` and `make test` do all set-up themselves; `make setup` does it alone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JARS   := .sentio/kafka-jars/.complete
PUSHER := tests/pusher/node_modules/.complete .sentio/pysher/.complete
SCHEMATHESIS := .sentio/schemathesis/.complete
MOTO   := .sentio/moto/.complete
NODE   := clients/js/node_modules
PAGE   := gateway/dashboard/page/vendor/.complete
ARGS   ?=
WORKERS ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup demo test chaos bench test-containers check format lock clean tools fuzz

setup: $(VENV)/.installed $(VENV)/.native $(JARS) $(PAGE)

tools:
	@command -v $(PYTHON) >/dev/null || { echo "missing: Python 3.11 or newer (set PYTHON=/path/to/python3)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer; $(PYTHON) is older (set PYTHON=/path/to/python3)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "missing: Python's venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@command -v java >/dev/null || { echo "missing: Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "missing: Maven (Debian: apt-get install maven)" >&2; exit 1; }

$(VENV)/.complete: requirements.lock | tools
	@echo "setting up .venv ..." >&2
	@$(PYTHON) -m venv --clear $(VENV) >&2
	@$(BIN)/pip install --quiet --require-hashes -r requirements.lock >&2
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.complete
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable . >&2
	@touch $@

# The native codec, where cargo is; without it the Python one does the same for some fifty times the CPU.
$(VENV)/.native: native/Cargo.toml native/pyproject.toml $(wildcard native/src/*.rs) $(VENV)/.complete
	@if ! command -v cargo >/dev/null; then \
	  echo "no cargo (Rust 1.88 or newer): events are encoded and decoded in Python, some fifty times slower" >&2; \
	else \
	  echo "building the native codec ..." >&2; \
	  PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install --quiet --no-deps --no-build-isolation ./native >&2 && touch $@; \
	fi

# The client for JavaScript and what tests it, where npm is; without it those tests are left out.
$(NODE)/.complete: clients/js/package-lock.json $(wildcard clients/js/src/*.ts)
	@if ! command -v npm >/dev/null; then \
	  echo "no npm (Node 20 or newer): the JavaScript client is neither built nor tested" >&2; \
	else \
	  echo "building the JavaScript client ..." >&2; \
	  { cd clients/js && npm ci --silent && npm run --silent build && touch node_modules/.complete; } >&2 || \
	  echo "npm failed: the JavaScript client is neither built nor tested" >&2; \
	fi

# What the owner's page takes from others, where npm is; without it the page has neither charts nor feeds.
$(PAGE): gateway/dashboard/package-lock.json gateway/dashboard/vendor.js $(NODE)/.complete
	@if [ -e $(NODE)/.complete ]; then \
	  { cd gateway/dashboard && npm ci --silent && npm run --silent build && touch page/vendor/.complete; } >&2 || \
	  echo "npm failed: the owner's page has neither charts nor feeds" >&2; \
	fi

# Looks for messages or slots of a ring on which the native code panics or contradicts itself; ONLY=slots is one of the
# two, ARGS go to libFuzzer.
fuzz:
	cd native/fuzz && for target in $(or $(ONLY),messages slots); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=60 $(ARGS) || exit 1; done

$(JARS): sentio/stack/pom.xml | tools
	@echo "fetching the Kafka jars ..." >&2
	@mvn --quiet --batch-mode -f sentio/stack/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.sentio/kafka-jars -DincludeScope=runtime >&2
	@touch $@

# Pusher's own clients, unchanged, for tests: one of Node and one of Python, none in our own environment.
tests/pusher/node_modules/.complete: tests/pusher/package-lock.json
	@command -v npm >/dev/null || { echo "missing: Node.js 18 or newer with npm (Debian: apt-get install nodejs npm)" >&2; exit 1; }
	@npm ci --silent --no-audit --no-fund --prefix tests/pusher >&2
	@touch $@

.sentio/pysher/.complete: tests/pusher/requirements.txt | tools
	@$(PYTHON) -m venv --clear .sentio/pysher >&2
	@# pysher comes as source: what builds it is pinned too, and there before it.
	@awk '/^setuptools==/,/[^\\]$$/' $< > .sentio/pysher/setuptools.txt
	@.sentio/pysher/bin/pip install --quiet --require-hashes -r .sentio/pysher/setuptools.txt >&2
	@.sentio/pysher/bin/pip install --quiet --require-hashes --no-build-isolation -r $< >&2
	@touch $@

# Reads the OpenAPI document and looks for answers that it does not allow.
$(SCHEMATHESIS): tests/schemathesis/requirements.txt | tools
	@$(PYTHON) -m venv --clear .sentio/schemathesis >&2
	@.sentio/schemathesis/bin/pip install --quiet --require-hashes -r $< >&2
	@touch $@

# A server with S3's protocol, for the archive.
$(MOTO): tests/moto/requirements.txt | tools
	@$(PYTHON) -m venv --clear .sentio/moto >&2
	@.sentio/moto/bin/pip install --quiet --require-hashes -r $< >&2
	@touch $@

# ENGINE=cpp: the day is that of the engine in examples/engine-cpp, built with cmake and a C++17 compiler.
demo: setup
	@$(BIN)/sentio demo $(if $(ENGINE),--engine $(ENGINE)) $(ARGS)

# In three processes, also on two cores: most tests wait for servers most of the time.
test: setup $(PUSHER) $(SCHEMATHESIS) $(MOTO) $(NODE)/.complete
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The proof of exactly-once for longer than `make test` runs it: three storms of a million events, each of a fresh seed.
chaos: setup
	SENTIO_CHAOS_EVENTS=$${SENTIO_CHAOS_EVENTS:-1000000} SENTIO_CHAOS_RUNS=$${SENTIO_CHAOS_RUNS:-3} $(BIN)/pytest -o faulthandler_timeout=0 tests/chaos $(ARGS)

# Ours and the peers on the same data; ONLY=store is one of them, ARGS="--events 1000000" more of it. The gateway's needs cc,
# runs 15,000 clients for CHURN_S seconds (600), and has Centrifugo beside it where CENTRIFUGO=path names its program.
bench: setup
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(ARGS)

# The integration suite again, on Kafka and TimescaleDB in containers built here.
test-containers: setup $(PUSHER) $(SCHEMATHESIS) $(MOTO) $(NODE)/.complete
	deploy/images/test $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/integration $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins every dependency, with hashes and without index addresses.
lock:
	$(BIN)/pip install --quiet uv==0.13.8
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml requirements.build.in
	for tool in moto pusher schemathesis; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command 'make lock' --output-file tests/$$tool/requirements.txt tests/$$tool/requirements.in || exit 1; \
	done

clean:
	rm -rf $(VENV) .sentio tests/pusher/node_modules $(NODE) clients/js/dist gateway/dashboard/node_modules gateway/dashboard/page/vendor
