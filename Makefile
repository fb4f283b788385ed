# `make demo` shows it at work, `make test` runs every test. Both need Rust, a C compiler and Python 3 only; as root on
# Debian `make test` installs the judges of what is deployed, too, and elsewhere says which are missing.

CARGO ?= cargo
PYTHON ?= python3
WITNESS := target/witness
WITNESSES := tests/witness-requirements.txt
AXE := tests/browser
PEERS := tests/bench/requirements.txt
JUDGES := target/judges
# Debian packages whose programs judge what is deployed and shown, each as program:package. kubectl has no recent one there.
DEBIAN_JUDGES := debootstrap:debootstrap prometheus:prometheus promtool:prometheus systemd-analyze:systemd \
	systemd-nspawn:systemd-container dpkg-deb:dpkg chromium:chromium chromedriver:chromium-driver
# Programs that no package brings.
OTHER_JUDGES := kubectl
CARGO_DEB := 3.8.0
# The machine on which the package is installed: this one's release, and nothing that need not be there.
DEBIAN_TREE := ca-certificates,systemd,systemd-sysv

.DEFAULT_GOAL := help
.PHONY: help demo demo-live test bench bench-peers witness judges deb lint build tools clean

help:
	@echo 'make demo       mirror a bucket that fills, through a kill -9, and check the copy (about 90 s)'
	@echo 'make demo-live  the same without an end, with the status table, until Ctrl-C'
	@echo 'make test       every test'
	@echo 'make bench      what it costs, beside bare loops and its peers (about 25 minutes, on a quiet machine)'
	@echo 'make deb        the Debian package'
	@echo 'make lint       format, clippy, documentation, licences'
	@echo 'make clean      remove everything that was built'

demo: build
	$(PYTHON) tests/demo/run.py

demo-live: build
	$(PYTHON) tests/demo/run.py --live

build: tools
	$(CARGO) build --locked --workspace --bins

# The crash tests come before the others, which leave the binaries without crash points behind. All of the workspace is
# named each time: another choice of packages would have its dependencies built once more.
test: build witness judges
	$(CARGO) test --locked --no-fail-fast --workspace --features trailsync/failpoints --test kill --test kill_archive --test proof_program --test scrub
	$(CARGO) test --locked --workspace --doc
	$(CARGO) test --locked --no-fail-fast --workspace --lib --bins --tests

# The README says how BENCH_… change its size and its file system; WORKLOADS picks some.
bench: tools bench-peers
	$(CARGO) build --locked --release -p trailsync -p bench --bins
	target=$$($(CARGO) metadata --locked --no-deps --format-version 1 | \
		$(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])') && \
		"$$target/release/bench" $(WORKLOADS)

# Independent judges: another implementation of S3 and STS, AWS's own command line, and what looks at the page.
witness: $(WITNESS)/ready

$(WITNESS)/ready: $(WITNESSES) $(AXE)/package-lock.json
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo 'Python cannot make virtual environments here. On Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(WITNESS)
	$(WITNESS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@if command -v npm >/dev/null; then cp $(AXE)/package.json $(AXE)/package-lock.json $(WITNESS) && \
		npm ci --silent --no-audit --no-fund --prefix $(WITNESS); \
		else echo 'npm is missing: it installs axe-core, which judges the page. On Debian: apt-get install npm' >&2; fi
	@touch $@

# What judges packages, units, manifests and rules. As root, missing Debian packages are installed; else they are named,
# and the tests that need them say so, or fail where CI=true. No service of theirs is started.
judges: $(JUDGES)/bin/cargo-deb
	@missing=; for judge in $(DEBIAN_JUDGES); do \
		command -v "$${judge%:*}" >/dev/null || missing="$$missing $${judge#*:}"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; lock='-o DPkg::Lock::Timeout=600'; \
		apt-get $$lock update -qq && apt-get $$lock install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "Judges are missing; on Debian: apt-get install$$missing"; fi
	@if [ "$$(id -u)" = 0 ] && command -v debootstrap >/dev/null && [ ! -e $(JUDGES)/debian.ready ]; then \
		rm -rf $(JUDGES)/debian && . /etc/os-release && \
		debootstrap --variant=minbase --include=$(DEBIAN_TREE) "$$VERSION_CODENAME" $(JUDGES)/debian \
			>$(JUDGES)/debootstrap.log && touch $(JUDGES)/debian.ready; fi
	@for judge in $(OTHER_JUDGES); do command -v $$judge >/dev/null || echo "A judge is missing: $$judge"; done

# Built without optimization: it packs one file.
$(JUDGES)/bin/cargo-deb:
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --quiet --locked --debug --root $(JUDGES) \
		--target-dir $(JUDGES)/build cargo-deb@$(CARGO_DEB)
	@rm -rf $(JUDGES)/build

# What goes into packages beside the program, made by it; PROGRAM names a build other than the released one.
PROGRAM ?= target/release/trailsync
target/package: $(PROGRAM)
	mkdir -p $@
	$(PROGRAM) man $@/man
	$(PROGRAM) completions bash > $@/trailsync.bash
	$(PROGRAM) completions zsh > $@/_trailsync
	$(PROGRAM) completions fish > $@/trailsync.fish
	@touch $@

# The Debian package, in target/debian.
deb: tools judges
	$(CARGO) build --locked --release -p trailsync
	$(MAKE) --no-print-directory target/package
	PATH="$(CURDIR)/$(JUDGES)/bin:$$PATH" $(CARGO) deb --locked --no-build

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
	rm -rf $(WITNESS) $(JUDGES)
