# What a developer runs; CI runs the same. `make help` lists the targets.
SHELL := /bin/bash

.PHONY: help build demo test deps lint rules
help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

build: ## all binaries and the simulated driver, in the one profile that tests and demo share
	cargo build --workspace --locked

demo: build ## a collector and 16 simulated nodes on this machine; DEMO_SECONDS=n ends it by itself
	target/debug/gridstep-demo

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

rules: ## alert rules and examples for Prometheus and Alertmanager, by their own tools
	promtool check config deploy/prometheus/prometheus.yml
	promtool test rules deploy/prometheus/gridstep.rules.test.yml
	amtool check-config deploy/alertmanager/alertmanager.yml

deps: ## what the tests need beside Rust: a Python venv with third-party NVML clients, Debian's chromium, Prometheus, Alertmanager
	deploy/test-deps.sh

test: deps build lint rules ## everything
	cargo test --workspace --locked
