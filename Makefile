# `make demo` shows it at work, `make test` runs every test. Both need Rust, a C compiler and Python 3 only.

CARGO ?= cargo
PYTHON ?= python3
WITNESS := target/witness
WITNESSES := tests/witness-requirements.txt
PEERS := tests/bench/requirements.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-live test bench bench-peers witness lint build tools clean

help:
	@echo 'make demo       mirror a bucket that fills, through a kill -9, and check the copy (about 90 s)'
	@echo 'make demo-live  the same without an end, with the status table, until Ctrl-C'
	@echo 'make test       every test'
	@echo 'make bench      what it costs, beside bare loops and its peers (about 25 minutes, on a quiet machine)'
	@echo 'make lint       format, clippy, documentation, licences'
	@echo 'make clean      remove everything that was built'

demo: build
	$(PYTHON) tests/demo/run.py

demo-live: build
	$(PYTHON) tests/demo/run.py --live

build: tools
	$(CARGO) build --locked --workspace --bins

# The crash tests come before the others, which leave the binaries without crash points behind.
test: build witness
	$(CARGO) test --locked --features failpoints --test kill --test kill_archive --test proof_program --test scrub
	$(CARGO) test --locked --workspace --doc
	$(CARGO) test --locked --workspace --lib --bins --tests

# The README says how BENCH_… change its size and its file system; WORKLOADS picks some.
bench: tools bench-peers
	$(CARGO) build --locked --release -p trailsync -p bench --bins
	target=$$($(CARGO) metadata --locked --no-deps --format-version 1 | \
		$(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])') && \
		"$$target/release/bench" $(WORKLOADS)

# Independent judges: another implementation of S3 and STS, and AWS's own command line.
witness: $(WITNESS)/ready

$(WITNESS)/ready: $(WITNESSES)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'Python cannot make virtual environments here. On Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(WITNESS)
	$(WITNESS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

lint: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check bans licenses sources; \
		else echo 'cargo-deny is not installed: bans, licences and sources are not checked'; fi

# What people would use instead; `rclone`, where the system has it, is measured, too.
bench-peers: $(WITNESS)/peers

$(WITNESS)/peers: $(PEERS) | witness
	$(WITNESS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

tools:
	@command -v $(CARGO) >/dev/null || { echo 'Rust is missing: install it with rustup' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'A C compiler is missing. On Debian: apt-get install gcc' >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo 'Python 3 is missing. On Debian: apt-get install python3' >&2; exit 1; }

clean:
	$(CARGO) clean
	rm -rf $(WITNESS)
