# What a developer runs. Everything is built with the one profile `release`, so that RocksDB is
# compiled once; see docs/decisions/0003-one-cargo-profile.md.

# Where cargo builds, CARGO_TARGET_DIR or not. Asked only when a target needs it.
TARGET_DIR = $(shell cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

# Our own code is tested with the assertions that a release build leaves out.
TEST_FLAGS = --config profile.release.package.postbackd.debug-assertions=true \
	--config profile.release.package.postbackd.overflow-checks=true

.DEFAULT_GOAL := help
.PHONY: help setup run test check alerts fuzz bench load

help: ## Lists these targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST))

setup: ## Checks that everything needed to build is there; installs it where possible.
	@scripts/setup.sh

run: setup ## Builds the server and starts it with the example configuration.
	cargo build --release --locked
	@scripts/run.sh "$(TARGET_DIR)/release/postbackd"

test: setup ## Runs all tests.
	cargo test --release --locked --workspace $(TEST_FLAGS)

check: setup alerts ## Formatting, lints, documentation, alerts, fuzz targets: all of it must be clean.
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --release --locked --workspace --no-deps
	@if [ -f fuzz/Cargo.toml ]; then $(MAKE) --no-print-directory fuzz; fi

alerts: ## Tests the alert rules and reads the dashboard's queries, where promtool is installed.
	@scripts/alerts.sh

fuzz: ## Builds the fuzz targets.
	cargo build --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$(TARGET_DIR)"

bench: setup ## Runs the benches.
	cargo bench --locked --profile release

load: setup ## Measures the server against the floor; writes target/load/table.html.
	cargo build --release --locked --workspace
	"$(TARGET_DIR)/release/loadtest" table --server-bin "$(TARGET_DIR)/release/postbackd" --out-dir target/load
