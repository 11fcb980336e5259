# Two commands do everything on a fresh Debian machine with a Rust toolchain: `make serve` and `make test`.
# One profile (release) builds, tests and measures: each profile would compile RocksDB's C++ again.

CARGO ?= cargo
SERVE ?= --data etagdb-data --listen 127.0.0.1:8081
BENCH ?=
PEERS ?=
SCALING ?=
MARK ?=
target = $(or $(CARGO_TARGET_DIR),target)
schedules = tests/schedules/Cargo.toml --target-dir $(target)/schedules

.PHONY: help serve build test tools fmt clippy doc unit alone examples sdk conformance acceptance storm
.PHONY: bench bench-http bench-peers mark scaling latency instructions memory
.PHONY: soak fuzz powercut again histories schedules schedules-once mutants explorer-screenshots

help: ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

serve: build ## build the server and start it on ./etagdb-data (SERVE="--listen ..." passes other flags)
	@exec $(target)/release/etagdb serve $(SERVE)

build: tools ## compile the server
	@echo "building etagdb; the first time this compiles RocksDB, which takes about ten minutes on four cores"
	$(CARGO) build --release --locked --workspace

test: tools fmt clippy doc unit schedules-once alone examples ## all that must pass: formatting, lints, documentation, unit, crash, schedule, protocol and SDK tests

tools: ## install what compiling RocksDB needs and is missing
	@scripts/install-tools.sh

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path tests/schedules/Cargo.toml --check

clippy:
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --release --locked --manifest-path $(schedules) --all-targets -- -D warnings

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

acceptance: build ## run all of the Python SDK's own tests (five minutes) and write ACCEPTANCE.md
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

bench: tools ## all goals beside raw RocksDB, into benches/results (BENCH=--quick: two minutes, BENCH="--only Sync": some rows)
	$(CARGO) bench --locked --workspace --bench throughput -- $(BENCH)

latency: tools ## single operations without contention, compared with the run before
	$(CARGO) bench --locked --workspace --bench latency -- $(BENCH)

instructions: tools ## instructions of a read and a write against benches/instructions.txt (UPDATE=--update keeps new figures)
	$(CARGO) build --release --locked --workspace --bin instructions
	$(target)/release/instructions $(UPDATE)

memory: tools ## memory and disk under load for SECONDS=600
	$(CARGO) bench --locked --workspace --bench throughput -- --only "under load" --soak $(or $(SECONDS),600)

# What is built outside of the workspace links the RocksDB that the workspace compiled: it is the same one. Where it lies is
# asked before the variables are set, which would make the workspace compile it again.
with_rocksdb = librocksdb=$$($(CARGO) build --release --locked --workspace --message-format json 2>/dev/null | \
    sed -n '/librocksdb-sys/s/.*"out_dir":"\([^"]*\)".*/\1/p'); ROCKSDB_STATIC=1 ROCKSDB_LIB_DIR=$$librocksdb
peers = $(abspath $(target))/peers

bench-peers: build ## other embedded stores beside etagdb, ten minutes (PEERS="--engines redb,sled" does less)
	@$(with_rocksdb) $(CARGO) build --release --locked --manifest-path benches/peers/Cargo.toml --target-dir $(peers)
	$(peers)/release/peers --dir $(peers) $(PEERS)

# In the workspace it has the features of its dependencies that others ask for as well.
alone: build ## check that the engine compiles without the rest of the workspace, as in a program that embeds it
	@$(with_rocksdb) $(CARGO) check --release --locked -p etagdb --target-dir $(abspath $(target))/alone

mark: tools ## what the durable mark costs at 64 writers, in turns with and without it, 40 seconds (MARK="--writers 16")
	$(CARGO) bench --locked --workspace --bench mark -- --dir $(abspath $(target)) $(MARK)

scaling: tools ## how throughput grows with threads, sizes, documents and versions, four minutes (SCALING="--only threads")
	$(CARGO) bench --locked --workspace --bench scaling -- --dir $(abspath $(target)) $(SCALING)

bench-http: tools ## the server beside its own HTTP stack: writes benches/results/http.md (BENCH="--only h1" takes some of it)
	@mkdir -p benches/results
	$(CARGO) bench --locked --workspace --bench http -- $(if $(BENCH),$(BENCH),--rounds 3 --write $(CURDIR)/benches/results/http.md)

powercut: build ## the long run: 24,000 power cuts, 8,000 damages, each single call failing, a million checked operations (15 minutes, with a table)
	ETAGDB_POWER_CUTS=24000 ETAGDB_DAMAGES=8000 ETAGDB_FAULT_STEP=1 ETAGDB_REAL_CUTS=100 ETAGDB_HISTORIES=3500 \
  ETAGDB_BIN=$(abspath $(target))/release/etagdb \
	  scripts/summary.sh $(CARGO) test --release --locked --workspace --test durability --test semantics -- --nocapture --test-threads=2 \
	  again power damage faults seeded planted real_disk kill checkpoints linearizab

again: ## try the cases once more that the durability tests failed at (ETAGDB_CASE="fault write:37:1:28" tries that one)
	$(CARGO) test --release --locked --workspace --test durability cases_that_once_failed -- --nocapture

histories: build ## concurrent clients, embedded and over HTTP, across kills and faults, at once, for SECONDS=600 (SEED=1 for other choices)
	ETAGDB_HISTORY_SECONDS=$(or $(SECONDS),600) ETAGDB_SEED=$(or $(SEED),0) ETAGDB_BIN=$(abspath $(target))/release/etagdb \
	  scripts/summary.sh $(CARGO) test --release --locked --workspace --test durability histories -- --nocapture

# A package of its own, without RocksDB and without the server: it compiles in half a minute. With planted bugs.
schedules-once:
	$(CARGO) test --release --locked --manifest-path $(schedules)

schedules: ## new schedules of the write path for SECONDS=600; a red one says how it is repeated
	ETAGDB_SCHEDULES_SECONDS=$(or $(SECONDS),600) $(CARGO) test --release --locked --manifest-path $(schedules) --test schedules -- --nocapture

mutants: ## plant bugs in a copy of the engine's files, each of which schedules must notice, and say how soon
	$(CARGO) test --release --locked --manifest-path $(schedules) --test mutants
