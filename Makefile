# One command per thing that a contributor does. "make" alone lists them.
# Everything but e2e needs Go only; CONTRIBUTING.md tells the order.

GO        ?= go
BIN       ?= bin/postern
FUZZTIME  ?= 60
SOAK      ?= 60

export CGO_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help build test lint fmt race vuln e2e fuzz mutants soak bench-dataplane openapi check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/postern
	$(GO) build -trimpath -o $(BIN) ./cmd/postern

test: ## unit and property tests, the stand-in for AWS, every command (under 3 minutes)
	$(GO) test ./...

check: ## play the whole story on this machine, with real traffic
	$(GO) run ./cmd/postern sandbox --check

lint: ## go vet and golangci-lint, in the version that CI uses
	$(GO) vet ./...
	bash test/tools.sh golangci-lint run ./...

fmt: ## format as lint demands
	bash test/tools.sh golangci-lint fmt ./...

race: ## all tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

vuln: ## known vulnerabilities in what the product calls
	bash test/vuln.sh

e2e: ## other people's clients against the sandbox; SUITES="awscli curl" for some
	bash test/e2e/run.sh $(SUITES)

fuzz: ## every fuzz target, FUZZTIME seconds each (60)
	bash test/fuzz.sh $(FUZZTIME)

bench-dataplane: ## the data path beside HAProxy, nginx and Envoy (half an hour); writes bench/dataplane/RESULTS.md
	bash bench/dataplane/run.sh

mutants: ## break each promise in turn and see the story fail where it should
	bash test/mutants/run.sh $(MUTANTS)

soak: ## play the story again and again for SOAK minutes (60)
	bash test/soak.sh $(SOAK)

openapi: ## write internal/api/openapi.yaml from the code; CI fails when it differs
	$(GO) test ./internal/api -run '^TestOpenAPI' -update

clean: ## remove what build made
	rm -rf bin dist
