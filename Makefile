# Every target sets up what it needs in a local .venv; a machine needs Python >= 3.11 with venv, a C linker and cargo.
# `make help` lists the targets. CI calls the same ones (see .ci/run).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# The first of these that is Python 3.11 or newer; name another with `make PYTHON=...`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# `make build PROFILE=dev` compiles faster and checks more; what is measured and shipped is `release`.
PROFILE ?= release
# More for pytest: `make test ARGS="-k join -x"`.
ARGS ?=
# Not $(MAKE) in a recipe: `make -n` runs what has that word in it, and some of that takes hours.
AGAIN := $(MAKE) --no-print-directory
# The interpreters that `make wheels` builds for; empty: every supported one that is found.
PYTHONS ?=
# What `make wheels` runs from each installed wheel; empty: nothing.
WHEEL_TESTS ?= tests/contract tests/properties tests/compat
# In how many threads `make at-once` runs each test.
THREADS ?= 8
# How long each random test of `make soak` goes on, in seconds.
SOAK_SECONDS ?= 600
# Where `make soak` writes what it tried; docs/reliability.md is made of it.
RECORD ?= tools/reliability/recorded/tests.json
# What `make bench` measures on: `make bench BENCH_PYTHON=python3.14`.
BENCH_PYTHON ?= $(BIN)/python

export CARGO_TERM_PROGRESS_WHEN ?= never
# The interpreter that PyO3 is built for: set for every cargo command, so that none rebuilds what another has built.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

# rustup looks for its toolchains in $HOME. Where that is another folder than usual (CI with an empty home), look
# beside the cargo that was found.
CARGO_BIN := $(dir $(shell command -v cargo))
ifeq ($(RUSTUP_HOME)$(wildcard $(HOME)/.rustup),)
ifneq ($(wildcard $(CARGO_BIN)../../.rustup/settings.toml),)
export RUSTUP_HOME := $(abspath $(CARGO_BIN)../../.rustup)
endif
endif

RUST_SOURCES := $(shell find rust .cargo -type f \( -name '*.rs' -o -name '*.toml' \)) Cargo.toml Cargo.lock
PYTHON_SOURCES := $(wildcard python/cano tests examples benches tools)

.PHONY: help demo test build lint format typecheck bench bench-peers bench-guard bench-rust docs wheels soak at-once coverage \
	mutants-python reliability interleavings mutants coverage-rust coverage-native miri tsan audit clean
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

demo: build $(STAMPS)/demo ## survey the standard library's source with a split over every file
	$(BIN)/python examples/survey/main.py $(ARGS)

test: build $(STAMPS)/test ## run the Rust and the Python tests (ARGS= goes to pytest)
	cargo test --quiet --locked --package cano-engine
	$(BIN)/python -m pytest $(ARGS)

build: $(STAMPS)/build-$(PROFILE) ## build the native engine and install cano, editable, into .venv

lint: $(STAMPS)/lint ## ruff, rustfmt and clippy, warnings as errors
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || { echo "cano: rustfmt and clippy are \
	needed to lint: 'rustup component add rustfmt clippy' (Debian: apt install rustfmt rust-clippy)." >&2; exit 1; }
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	cargo fmt --all -- --check
	cargo fmt --manifest-path benches/rust/Cargo.toml -- --check
	cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

format: $(STAMPS)/lint ## let ruff and rustfmt rewrite what they can
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)
	$(BIN)/ruff format $(PYTHON_SOURCES)
	cargo fmt --all
	cargo fmt --manifest-path benches/rust/Cargo.toml

typecheck: build $(STAMPS)/test ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright --warnings

bench: $(STAMPS)/maturin ## measure the engines beside plain asyncio, and write docs/performance.md (BENCH_PYTHON= names the interpreter)
	python=$$(benches/prepare.sh "$(BENCH_PYTHON)" bench) && \
		$$python -m benches.python --out benches/results/$$(basename $$(dirname $$(dirname $$python))).json $(ARGS)
	$(BIN)/python -m benches.report benches/results/cpython-*.json

bench-peers: $(STAMPS)/maturin ## measure other workflow libraries on the same small jobs, and add them to docs/performance.md
	python=$$(benches/prepare.sh "$(BENCH_PYTHON)" peers) && \
		$$python -m benches.peers --out benches/results/peers.json $(ARGS)
	$(BIN)/python -m benches.report benches/results/cpython-*.json

bench-guard: $(STAMPS)/maturin ## count the instructions of hot paths and compare with stored figures (needs valgrind)
	python=$$(benches/prepare.sh "$(BENCH_PYTHON)") && $$python -m benches.guard $(ARGS)

bench-rust: build ## measure the Rust engine beside the Rust original, without Python, and add it to docs/performance.md
	cargo bench --manifest-path benches/rust/Cargo.toml --target-dir benches/rust/target -- --warm-up-time 1 \
		--measurement-time 2 $(ARGS)
	$(BIN)/python -m benches.report.rust_engine benches/results/rust.json
	$(BIN)/python -m benches.report benches/results/cpython-*.json

docs: $(STAMPS)/docs ## build the documentation into site/, warnings as errors
	$(BIN)/python tools/build_docs.py

wheels: $(STAMPS)/maturin ## build a wheel per interpreter of PYTHONS= into dist/, test each installed, and the source distribution
	$(BIN)/maturin sdist --out dist
	$(BIN)/python -m tools.build_wheels --out dist --test "$(WHEEL_TESTS)" $(PYTHONS)

soak: build $(STAMPS)/test ## the long form of everything, recorded for docs/reliability.md (SOAK_SECONDS= for each random test; hours)
	@# With ARGS, of what they choose; without, what is not a test as well: coverage, mutants, wheels.
	CANO_SOAK=1 CANO_FUZZ_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -o faulthandler_timeout=$$(( $(SOAK_SECONDS) + 3600 )) \
		--record=$(RECORD) $(ARGS); ended=$$?; \
		$(if $(ARGS),,for more in coverage mutants-python mutants wheels; do $(AGAIN) $$more || ended=$$?; done;) \
		$(AGAIN) reliability && exit $$ended

at-once: build $(STAMPS)/test ## each test of the contract in THREADS= threads at once, truly so with a free-threaded PYTHON=
	$(BIN)/python -m pytest --at-once=$(THREADS) tests/contract $(ARGS)

coverage: build $(STAMPS)/test $(STAMPS)/coverage ## lines and branches of the pure engine's core that no test reaches (none)
	$(BIN)/python -m coverage run -m pytest --quiet --engine python tests/contract tests/pure tests/properties \
		tests/faults/test_lost_turns.py $(ARGS)
	$(BIN)/python -m tools.reliability.notes
	$(BIN)/python -m coverage report

mutants-python: build $(STAMPS)/test ## change the pure engine's machines in one place at a time: a test must fail (ten minutes)
	$(BIN)/python -m tools.reliability.mutants $(ARGS)

reliability: $(STAMPS)/venv ## write docs/reliability.md from what was recorded
	$(BIN)/python -m tools.reliability.page

interleavings: ## what threads share, in every order of their steps: loom and shuttle (CANO_SOAK=1, CANO_SCHEDULES= go further)
	cargo test --quiet --locked --manifest-path tests/interleavings/Cargo.toml --target-dir target/interleavings -- --nocapture --test-threads 1

mutants: $(STAMPS)/venv ## change the Rust machines in every way cargo-mutants knows; the tests must notice (cargo install cargo-mutants)
	$(BIN)/python -m tools.reliability.mutants_rust $(ARGS)

coverage-rust: ## lines and branches of the Rust engine that its own tests reach (cargo install cargo-llvm-cov; nightly with llvm-tools)
	cargo +nightly llvm-cov --branch --package cano-engine --locked --show-missing-lines $(ARGS)

coverage-native: $(STAMPS)/test ## lines and branches of the binding that the tests reach (rustup toolchain install nightly --component llvm-tools)
	$(BIN)/python -m tools.reliability.coverage_native $(ARGS)

miri: ## the Rust machines and the hand-off under Miri (rustup +nightly component add miri)
	CANO_FUZZ_EVENTS=300 MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-deterministic-floats' cargo +nightly miri test --quiet --locked --package cano-engine \
		--no-default-features --target-dir target/miri --test handoff --test fuzz_split --test fuzz_run --test policy

tsan: ## the threads of the Rust engine under ThreadSanitizer, x86-64 Linux (rustup +nightly component add rust-src)
	@# With a standard library of its own: what that does between threads is seen, too.
	RUSTFLAGS=-Zsanitizer=thread cargo +nightly test --quiet --locked -Zbuild-std --target x86_64-unknown-linux-gnu \
		--target-dir target/tsan --package cano-engine --test handoff --test driver_run --test driver_split --test store

audit: ## licences, advisories and sources of every crate (cargo install cargo-deny)
	cargo deny check

clean: ## remove everything that these targets made
	rm -rf $(VENV) target benches/rust/target dist site survey-report .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find python -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per thing that is set up: a target costs nothing when nothing changed.
$(STAMPS)/venv: tools/check-machine.sh
	@tools/check-machine.sh "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/maturin: $(STAMPS)/venv pyproject.toml
	$(PIP) install "maturin>=1.9.4,<2"
	@touch $@

$(STAMPS)/demo $(STAMPS)/test $(STAMPS)/lint $(STAMPS)/docs $(STAMPS)/coverage: $(STAMPS)/venv pyproject.toml tools/extra.py
	$(BIN)/python tools/extra.py $(@F) > $@.txt
	$(PIP) install --requirement $@.txt
	@touch $@

# The package's metadata and the link to python/ are installed once per change of pyproject.toml (the log hides a line of
# chatter per optional dependency); after that only the native module is rebuilt. maturin puts the new file in place of
# the old one in one step, so a process that runs the old one is left alone.
$(STAMPS)/installed: $(STAMPS)/maturin
	@$(BIN)/maturin develop --profile $(PROFILE) > $@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

$(STAMPS)/build-$(PROFILE): $(STAMPS)/installed $(RUST_SOURCES)
	$(BIN)/maturin develop --quiet --skip-install --profile $(PROFILE)
	@rm -f $(STAMPS)/build-* && touch $@
