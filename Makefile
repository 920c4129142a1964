# What a developer runs; CI runs the same. `make help` lists the targets.
SHELL := /bin/bash

CARGO_DEB := target/tools/bin/cargo-deb
# The harness and the fleet are tested with all else.
EVERYTHING := --workspace --features gridstep-simulator/eval,gridstep-simulator/fleet --locked

.PHONY: help bench bench-fleet bench-hot bench-kill bench-outage build build-tests demo eval eval-otherhand test test-systemd deb deps lint rules
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

build: ## all binaries and the simulated driver, in the one profile that tests and demo share
	cargo build --workspace --locked

# Programs and tests at once: apart, crates that both use are built twice, as tests ask for more features of them.
build-tests:
	cargo build $(EVERYTHING) --all-targets

demo: build ## a collector and 16 simulated nodes on this machine; DEMO_SECONDS=n ends it by itself
	target/debug/gridstep-demo

eval: ## scores the detectors on simulated fleets of known truth, docs/evaluation.md
	cargo build $(EVERYTHING) --bin gridstep-eval
	target/debug/gridstep-eval

OTHERHAND_SET ?= fresh
OTHERHAND := target/otherhand/$(OTHERHAND_SET)
eval-otherhand: deps ## scores stragglers on the 200 scenarios of a generator that knows no detector, docs/evaluation.md; OTHERHAND_SET=mended: on the 520 that it was mended on
	cargo build --release --locked -p gridstep-collector
	.venv/bin/python -m simulator.otherhand generate --set $(OTHERHAND_SET) --out $(OTHERHAND)
	.venv/bin/python -m simulator.otherhand score --collector target/release/gridstep-collector --verbose $(OTHERHAND)

bench: deps ## what the agent costs beside its peers, docs/performance.md; takes BENCH_SECONDS (300) twice
	deploy/bench/all-smi.sh
	cargo build --release --locked -p gridstep-agent -p gridstep-simulator
	cargo build --locked -p gridstep-collector
	.venv/bin/python deploy/bench/cost.py

bench-fleet: deps ## what a whole fleet costs the collector, beside VictoriaMetrics and Prometheus if they are there, docs/performance.md
	cargo build --release --locked --workspace --features gridstep-simulator/fleet --bin gridstep-collector --bin gridstep-fleet
	.venv/bin/python deploy/bench/fleet.py

bench-outage: deps ## all nodes of a fleet come back after OUTAGE_SECONDS (600) without a collector, docs/performance.md
	cargo build --release --locked --workspace --features gridstep-simulator/fleet --bin gridstep-collector --bin gridstep-fleet
	.venv/bin/python deploy/bench/outage.py

bench-hot: ## the paths that every sample takes, by themselves, docs/performance.md
	cargo bench --locked --package gridstep-collector

bench-kill: deps ## kills collector and agents at random for KILL_SECONDS (600), and looks what is lost or doubled, docs/store.md
	cargo build $(EVERYTHING)
	.venv/bin/python deploy/bench/kill.py

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy $(EVERYTHING) --all-targets -- -D warnings

rules: ## alert rules and examples for Prometheus and Alertmanager, by their own tools
	promtool check config deploy/prometheus/prometheus.yml
	promtool test rules deploy/prometheus/gridstep.rules.test.yml
	amtool check-config deploy/alertmanager/alertmanager.yml

deps: $(CARGO_DEB) ## what the tests need beside Rust: third-party NVML clients, nvidia-smi, and programs of Debian's
	deploy/test-deps.sh
	deploy/nonfree.sh

# Kept under target/, as installing it takes two minutes.
$(CARGO_DEB):
	cargo install cargo-deb --locked --version 3.8.0 --root target/tools

deb: $(CARGO_DEB) ## Debian packages of both daemons, into target/debian
	cargo build --release --locked -p gridstep-agent -p gridstep-collector
	$(CARGO_DEB) -p gridstep-agent --no-build
	$(CARGO_DEB) -p gridstep-collector --no-build

test-systemd: deps build-tests ## installs both packages into a small Debian, boots it, and looks whether the units keep what they promise
	deploy/tests/systemd.sh

test: deps build-tests lint rules test-systemd ## everything
	cargo test $(EVERYTHING)
