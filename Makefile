# make demo and make test need Go and Linux, nothing else.

GO      ?= go
# The commit is recorded in the binary where there is one.
VCS     := $(shell git rev-parse --verify --quiet HEAD >/dev/null 2>&1 && echo auto || echo false)
TESTFLAGS ?=
# Pinned here and not a tool of go.mod, to which it would add 200 lines.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build test stories demo bench soak lint clean

build: ## leaves bin/earshot
	$(GO) build -trimpath -buildvcs=$(VCS) -o bin/earshot ./cmd/earshot

test: ## all but the long stories; as root or as an ordinary user
	@unformatted=$$(gofmt -l cmd coordinator e2e hashmode nft raftstore); \
	  test -z "$$unformatted" || { echo "run gofmt -w on:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	$(GO) test -count=1 -timeout 20m $(TESTFLAGS) $$($(GO) list ./... | grep -v /e2e)
	$(GO) test -count=1 -p 1 -timeout 20m -short $(TESTFLAGS) ./e2e/...

stories: ## all stories, the long ones too: on a machine that has nothing else to do, half an hour
	$(GO) test -count=1 -p 1 -timeout 90m $(TESTFLAGS) ./e2e/...

demo: ## three nodes and a client on this machine, under a minute
	@$(GO) run ./e2e/demo

bench: ## start time, memory, cost per frame, requests/s beside HAProxy, failover, moves
	@$(GO) run ./e2e/bench

HOURS   ?= 100
MINUTES ?= 60
soak: ## HOURS of a simulated cluster under faults (100: some 40,000 of them), then MINUTES of faults on the real kernel
	$(GO) test -count=1 -timeout 0 -v ./coordinator/sim -run Soak -sim.hours=$(HOURS)
	$(GO) run ./e2e/nemesis -minutes $(MINUTES)

lint: ## what .golangci.yml asks for; the first time it builds the linter (a minute)
	$(GO) run $(GOLANGCI) run

clean:
	rm -rf bin
