# Everything needs Go and make, tests with -race also a C compiler, those of the
# PostgreSQL store a PostgreSQL, those of deployments/ an HAProxy (make deps sees
# to both); the other tools are pinned in tools/go.mod, and Go builds them when they
# are first used.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Go stamps the revision into what it builds, and refuses to build if git is
# there but won't tell it (another user's checkout, say): then go without.
ifeq ($(shell git rev-parse --verify --quiet HEAD 2>/dev/null),)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif

GOLANGCI := go tool -modfile=tools/go.mod golangci-lint
TESTTIMEOUT ?= 20m
# Where tests keep what they write: hundreds of databases, in memory if that is roomy.
# (Some 4 GB at the most.) What a disk does is asked by the benchmarks and long chaos.
TESTTMP ?= $(or $(shell tools/roomy.sh),$(TMPDIR),/tmp)
SEEDS ?= 500
SEED ?= 0
VAULT ?= 0
VIEWS ?=
SIMTIMEOUT ?= 3h
FAULTS ?= 0
FUZZTIME ?= 10s
FUZZMIN ?= 100x
FUZZ ?=
COVERMIN ?= 85
PLANTS ?=
DEMO ?=
BENCH ?=
CHAOS ?=
MINUTES ?= 10
LARGE ?= 10000000
SOAK ?= 1h
CHECKED ?= 1000000

.PHONY: help demo build deps page page-check page-test generate generate-check check fmt fmt-check lint vet test chaos chaos-short chaos-postgres chaos-cluster sim model walk planted fuzz cover bench bench-large bench-cluster bench-sends bench-botcheck soak microbench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## play Meta and its users against a node on this machine, and judge it (DEMO="--rate 2000 --kill 3")
	go run ./cmd/parley demo $(DEMO)

build: ## build bin/parley, a static binary
	CGO_ENABLED=0 go build -trimpath -o bin/parley ./cmd/parley

deps: ## see that there are a PostgreSQL and an HAProxy for the tests: install them on Debian and Ubuntu, elsewhere say how
	@tools/postgres.sh
	@tools/haproxy.sh

page: ## build the web page of parley dev anew, with Node and npm
	tools/page.sh build

page-check: ## fail if make page would change something; without npm, say so
	@tools/page.sh check

page-test: ## play the web page in a headless Chromium; pictures are in console/page/out
	go build -o bin/parley ./cmd/parley
	@tools/page.sh test

generate: ## write the Go code of the messages between nodes anew
	cd tools/protogen && go run . -root ../.. actors/wire/wire.proto

generate-check: ## fail if make generate would change something
	cd tools/protogen && go run . -root ../.. -check actors/wire/wire.proto

check: deps fmt-check generate-check page-check lint vet test chaos-short ## all that a change must pass: format, lint, vet, layout, tests with -race

fmt: ## format the code
	$(GOLANGCI) fmt

fmt-check: ## say what make fmt would change
	$(GOLANGCI) fmt --diff

lint: ## run the linters
	$(GOLANGCI) run

vet: ## run go vet
	go vet ./...

test: deps ## run the tests with -race
	TMPDIR=$(TESTTMP) go test -race -timeout $(TESTTIMEOUT) $$(go list ./... | grep -v /cmd/)
	TMPDIR=$(TESTTMP) go test -race -timeout $(TESTTIMEOUT) ./cmd/... # whole nodes, whose times would say nothing beside the others

chaos: deps ## mix all faults of nodes, store, network and load by a seed, and judge all promises, best as root (MINUTES=10 SEED=42)
	go test -count=1 -timeout 3h -v -run '^TestChaosMixed$$' ./cmd/parley -minutes=$(MINUTES) -seed=$(SEED)

chaos-short: deps ## inflict each fault of PostgreSQL, with -race, and of a cluster for a moment, under load (CHAOS='DiskFull|Slow' for two)
	go test -race -count=1 -timeout $(TESTTIMEOUT) -run '^TestChaos$$/($(CHAOS))' ./cmd/parley -chaos=short
	go test -count=1 -timeout $(TESTTIMEOUT) -run '^TestChaosOfCluster$$/($(CHAOS))' ./cmd/parley -chaos=short
	go test -count=1 -timeout $(TESTTIMEOUT) -run '^TestCluster$$' ./bench -nodes

chaos-postgres: deps ## inflict each fault of PostgreSQL for long, and print a table: some 15 minutes (CHAOS='DiskFull|Slow' for two)
	go test -count=1 -timeout 60m -v -run '^TestChaos$$/($(CHAOS))' ./cmd/parley -chaos=long

chaos-cluster: deps ## inflict each fault of a cluster for long, and print a table: some 25 minutes, best as root (CHAOS='Killed|Frozen' for two)
	go test -count=1 -timeout 90m -v -run '^TestChaosOfCluster$$/($(CHAOS))' ./cmd/parley -chaos=long

sim: ## run the simulation from many seeds, with progress, and shrink what fails (SEEDS=100000, SEED=42 to begin there, VAULT=1: all on the embedded store, VIEWS=true: all with views)
	go test -count=1 -timeout $(SIMTIMEOUT) -v -run '^TestSeeds$$' ./sim -seeds=$(SEEDS) -seed=$(SEED) -vault=$(VAULT) -views=$(VIEWS)

model: ## go through every state of the models of commits, sending, merging and handing over, and print their numbers (FAULTS=1: millions of states)
	go test -count=1 -timeout 30m -v -run '^Test(Commits|Sends|Merges|HandOvers)$$/^model$$' ./sim/modelcheck -faults=$(FAULTS)

walk: ## crash before and after each access to the store and the network, on each store, and print a table: some 3 minutes
	go test -count=1 -timeout $(TESTTIMEOUT) -v -run '^TestWalk$$' ./sim -stride=1 | grep -v '^=== '

planted: ## plant each bug of testdata/planted and see that its test catches it: most of an hour (PLANTS=postgres)
	go test -count=1 -timeout 4h -v -run '^TestPlanted$$' . -planted -plants='$(PLANTS)'

fuzz: ## run each fuzz target for a while, all of them, and fail if one did (FUZZTIME=60s, FUZZ='Stored|Decode' for some)
	@failed=(); \
	while IFS=: read -r file func; do \
		target="$${file%/*} $${func#func }"; echo "== $$target"; \
		go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime $(FUZZMIN) -timeout $(TESTTIMEOUT) "$${file%/*}" </dev/null || failed+=("$$target"); \
	done < <(grep -rEo --include='*_test.go' '^func Fuzz[[:alnum:]_]+' . | grep -E '$(FUZZ)' | sort); \
	if [ -n "$${target:-}" ] && [ $${#failed[@]} = 0 ]; then exit 0; fi; \
	echo "failed, or none of that name: $${failed[*]:-$(FUZZ)}; an input that fails is kept in testdata/fuzz" >&2; exit 1

cover: ## measure the coverage of the root package and of meta; below COVERMIN=85 percent is an error
	@go test -count=1 -timeout $(TESTTIMEOUT) -cover . ./meta | awk -v min=$(COVERMIN) \
		'{ print } match($$0, /coverage: [0-9.]+%/) { n++; if (substr($$0, RSTART + 10) + 0 < min) low = 1 } \
		END { if (n != 2 || low) { print "coverage: want both packages at " min "% or more"; exit 1 } }'

bench: ## measure CPU per operation in units of a bare server (BENCH="-rounds 3 -json")
	go build -o bin/bench ./bench
	bin/bench $(BENCH)

bench-large: ## hold the turn among 10 million stored conversations to that among 10 thousand (LARGE=1000000)
	go build -o bin/bench ./bench
	bin/bench -large $(LARGE) $(BENCH)

bench-cluster: ## measure three nodes that work together: turns, a kill, a drain, a join, idleness; most of an hour (BENCH="-rounds 2 -only drain")
	go build -o bin/bench ./bench
	bin/bench -cluster $(BENCH)

bench-botcheck: ## run parley bot check over a million stored conversations, on either store; some minutes, most of it to fill them (CHECKED=100000)
	go build -o bin/bench ./bench
	bin/bench -checked $(CHECKED) $(BENCH)

bench-sends: ## measure sending at the limit of one number, over 50, beside a parked one, and what acknowledging notices; 10 minutes (BENCH="-only 'send, 1 number' -duration 60s -rounds 5")
	go build -o bin/bench ./bench
	bin/bench -sends $(BENCH)

soak: ## run a node on PostgreSQL for an hour and see that its tables stop growing (SOAK=5m)
	go build -o bin/bench ./bench
	bin/bench -soak $(SOAK) $(BENCH)

microbench: ## run the Go benchmarks, in the form that benchstat reads
	go test -run '^$$' -bench . -benchmem ./...

clean: ## remove what was built
	rm -rf bin console/page/out
