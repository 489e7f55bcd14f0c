# make: the targets. `make run` and `make test` are all that a fresh machine needs; Rust is expected to be there.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin
EDS := target/release/eds
.DEFAULT_GOAL := help
.PHONY: help setup build run test test-long test-faults fuzz check demo bench bench-peers bench-growth bench-cliff bench-profile conformance release clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

setup: ## install what is missing (PostgreSQL, Redis, npm, curl) and fetch the R4 definitions
	@scripts/setup

build: setup ## the release binary
	cargo build --release --locked

run: build ## start it with a private PostgreSQL and the sample population, until Ctrl-C
	@scripts/run $(EDS)

test: setup ## all tests; T=name for those with that name
	cargo test --locked --workspace $(T)

test-long: setup ## 20,000 requests made from the definitions, 200,000 random searches; FUZZ_SEED=n, SEARCH_SEED=n repeat a run
	cargo test --locked --test fuzz -- --ignored --nocapture
	cargo test --locked --test search -- --ignored --nocapture

test-faults: setup ## the fault rig at full length on the release binary; writes docs/reliability.md
	EDS_FAULTS=long cargo test --release --locked --test faults -- --test-threads 1 $(T)

fuzz: setup ## each fuzz target for FUZZ_SECONDS=60, from its seeds and what it found before
	@scripts/fuzz

check: setup ## formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

demo: build ## the story of a document: two servers, two regions, both killed, nothing lost
	@scripts/demo $(EDS)

bench: setup ## the figures to reach, measured here (SIZE=1000000 for the size that the goals are set for)
	scripts/bench $(ARGS)
	scripts/bench-delivery

bench-peers: setup ## the same load on eds and on the peers that registries serve, as ratios (SIZE=20000)
	scripts/bench-peers $(ARGS)

bench-growth: setup ## the same load at 100 thousand, 1 million and 5 million resources, as a plot (SIZES="100000 1000000")
	scripts/bench-growth $(ARGS)

bench-cliff: setup ## two hundred shapes of search over 2 million skewed Observations: the slowest, with their plans
	scripts/bench-cliff $(ARGS)

bench-profile: setup ## flame graphs of import, create, read and search, in target/profile (needs perf)
	scripts/bench-profile $(ARGS)

conformance: ## docs/conformance.md, from the tables that route and search
	cargo run --locked -- conformance > target/conformance.md && mv target/conformance.md docs/conformance.md

release: check test build ## everything checked, then the binary and its SHA-256
	@cd target/release && sha256sum eds

clean: ## remove what was built; the data folder stays
	cargo clean
