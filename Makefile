# What people and CI call. Each target installs what it needs (scripts/setup.sh; quick when all is
# there). `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help build dist wheels static deb oci qcow2 fmt lint test torture bench demo setup

# Which part of `make torture` (scripts/torture.py lists them); empty: all that has not passed yet. Which
# parts of `make bench` (bench/bench.py lists them), and its options: PART='writes reads --quick'.
PART ?=
# Another machine than this one, of `make wheels`.
ARCH ?=

help: ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /\1\t/' | expand -t 12

setup: ## installs everything that any target needs
	@scripts/setup.sh

build: ## the program, for release: target/release/litefs-py
	@scripts/setup.sh rust
	cargo build --locked --release

dist: ## the program as it is shipped, small: target/dist/litefs-py; some minutes
	@scripts/setup.sh rust
	cargo build --locked --profile dist

wheels: ## wheels of the Python packages and the sdist, into python/dist; ARCH=aarch64: for that machine
	@scripts/setup.sh rust uv static $(filter aarch64,$(ARCH))
	cd python && .venv/bin/python tools/wheels.py $(if $(ARCH),--arch $(ARCH))

static: ## the same without any library: target/MACHINE-unknown-linux-musl/dist/litefs-py
	@scripts/setup.sh rust packages
	cargo build --locked --profile dist --target $$(uname -m)-unknown-linux-musl

deb: static ## the Debian package: target/packages/litefs-py_VERSION_ARCH.deb
	python3 packaging/deb.py

oci: static ## the container image: target/packages/litefs-py_VERSION_ARCH.oci.tar
	python3 packaging/oci.py

qcow2: deb ## the disk of a machine, for BIOS and UEFI: target/packages/litefs-py_VERSION_ARCH.qcow2
	@scripts/setup.sh images
	python3 packaging/qcow2.py

fmt: ## formats all code
	@scripts/setup.sh rust python uv
	cargo fmt
	.venv/bin/ruff format $(wildcard tests demo bench scripts packaging vm-tests)
	cd python && .venv/bin/ruff format

lint: ## formatting, clippy, dependencies, Python and shell; changes nothing
	@scripts/setup.sh system rust python uv deny nix
	@python3 scripts/steps.py lint

test: ## lint, and all tests but the long ones; ends with one table
	@scripts/setup.sh system rust python uv deny nix web go packages
	@python3 scripts/steps.py test

torture: ## what takes longer, in parts of at most 40 minutes; PART=nemesis-3 for one; goes on where it was
	@scripts/setup.sh system rust python uv packages images aarch64
	@python3 scripts/torture.py $(PART)

bench: ## measures beside plain SQLite, into bench/results; half an hour, 40 GB; PART='writes --quick'
	@scripts/setup.sh system rust
	cargo build --locked --release
	python3 bench/bench.py $(PART)

demo: ## three nodes, real data, a leader killed; cleans up after itself
	@scripts/setup.sh system rust
	cargo build --locked --release
	python3 demo/demo.py
