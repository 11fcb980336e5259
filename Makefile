# Two commands do everything on a fresh Debian machine with a Rust toolchain: `make serve` and `make test`.
# One profile (release) builds, tests and measures: each profile would compile RocksDB's C++ again.

CARGO ?= cargo
SERVE ?= --data etagdb-data --listen 127.0.0.1:8081
BENCH ?=
target = $(or $(CARGO_TARGET_DIR),target)

.PHONY: help serve build test tools fmt clippy doc unit examples sdk conformance acceptance storm bench soak fuzz powercut histories explorer-screenshots

help: ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

serve: build ## build the server and start it on ./etagdb-data (SERVE="--listen ..." passes other flags)
	@exec $(target)/release/etagdb serve $(SERVE)

build: tools ## compile the server
	@echo "building etagdb; the first time this compiles RocksDB, which takes about ten minutes on four cores"
	$(CARGO) build --release --locked --workspace

test: tools fmt clippy doc unit examples ## all that must pass: formatting, lints, documentation, unit, crash, protocol and SDK tests

tools: ## install what compiling RocksDB needs and is missing
	@scripts/install-tools.sh

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --quiet

# The SDK programs are run by the protocol tests, against the binary that `build` made.
unit: build sdk
	ETAGDB_BIN=$(abspath $(target))/release/etagdb $(CARGO) test --release --locked --workspace

examples: unit
	@for example in inventory bank job_queue audit; do \
	  echo "example $$example"; $(CARGO) run --release --locked --quiet --example $$example || exit 1; \
	done

conformance: build sdk ## ask every SDK again and write CONFORMANCE.md
	ETAGDB_UPDATE=1 ETAGDB_BIN=$(abspath $(target))/release/etagdb $(CARGO) test --release --locked --workspace --test protocol conformance

acceptance: build ## run all of the Python SDK's own tests (twenty minutes; port 8081 must be free) and write ACCEPTANCE.md
	ETAGDB_ACCEPTANCE=all ETAGDB_BIN=$(abspath $(target))/release/etagdb \
	  $(CARGO) test --release --locked --workspace --test protocol the_python_sdks_own_tests -- --nocapture

storm: build sdk ## 64 clients of the official SDKs, a hundred documents and a server that is killed at random, for SECONDS=60
	ETAGDB_STORM_SECONDS=$(or $(SECONDS),60) ETAGDB_BIN=$(abspath $(target))/release/etagdb \
	  $(CARGO) test --release --locked --workspace --test protocol no_update_is_lost_in_a_storm -- --nocapture

sdk: ## install the published SDKs that the tests run
	@tests/sdk/setup.sh >/dev/null

explorer-screenshots: build ## take the README's pictures of the explorer anew, with Chromium and chromedriver
	ETAGDB_PICTURES=$(abspath docs/explorer) ETAGDB_BIN=$(abspath $(target))/release/etagdb \
	  $(CARGO) test --release --locked --workspace --test protocol -- explorer::pictures

soak: tools ## random histories of the whole engine against a model, for SECONDS=3600; seeds that fail are kept
	ETAGDB_SOAK_SECONDS=$(or $(SECONDS),3600) $(CARGO) test --release --locked --workspace --test model as_long_as_one_likes -- --nocapture

fuzz: tools ## new inputs for everything that reads what clients send, SECONDS=60 for each fuzzer
	ETAGDB_FUZZ_SECONDS=$(or $(SECONDS),60) $(CARGO) test --release --locked --workspace --lib -- fuzz:: --nocapture

bench: tools ## throughput beside raw RocksDB (BENCH="--seconds 5 --bytes 100" changes the defaults)
	$(CARGO) bench --locked --workspace --bench throughput -- $(BENCH)

powercut: ## the long run: 24,000 power cuts, 8,000 damages, each single call failing, a million checked operations (15 minutes)
	ETAGDB_POWER_CUTS=24000 ETAGDB_DAMAGES=8000 ETAGDB_FAULT_STEP=1 ETAGDB_REAL_CUTS=100 ETAGDB_HISTORIES=3500 \
	  $(CARGO) test --release --locked --workspace --test durability --test semantics -- --nocapture --test-threads=1 \
	  power damage faults seeded real_disk kill checkpoints linearizab

histories: build ## concurrent clients, embedded and over HTTP, across kills and faults, for SECONDS=600 each (SEED=1 for other choices)
	ETAGDB_HISTORY_SECONDS=$(or $(SECONDS),600) ETAGDB_SEED=$(or $(SEED),0) ETAGDB_BIN=$(abspath $(target))/release/etagdb \
	  $(CARGO) test --release --locked --workspace --test durability histories -- --nocapture --test-threads=1
