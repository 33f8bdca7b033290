# What a stranger needs: make demo, make test. Everything else is a part of them, or make bench.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
STATICCHECK := bin/staticcheck-0.8.2
NFPM := bin/nfpm-2.45.2
# The flags that the test chain is built with: with others the whole SDK would be compiled once more.
AS_BUILT := env CGO_ENABLED=0 GOFLAGS='-trimpath -tags=pebbledb'
# The flags of a release, so that what is compiled to be checked is not compiled once more to be released.
AS_RELEASED := env CGO_ENABLED=0 GOFLAGS=-trimpath
# Each step says how long it took.
STEP = @step() { echo "== $$1"; shift; start=$$(date +%s); "$$@" || exit 1; echo "== done in $$(($$(date +%s) - start)) s"; }; step

.PHONY: build demo chain cosmovisor dist test check unit packages e2e chaos bench clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -X main.version=$(VERSION)' -o bin/solstice ./cmd/solstice

# A real chain through two upgrades, live on the terminal. The migration to v2 rewrites thirty thousand entries.
demo: build chain
	@exec bin/solstice simulate --binary bin/chaind-v1 --upgrade v2=bin/chaind-v2 --upgrade v3=bin/chaind-v3 \
		--genesis app_state.ledger.entries=30000

# The test chain's binaries, as bin/chaind-v1 and so on. The first build takes minutes; it is kept in the user's cache.
chain:
	@cd testchain && go run ./cmd/build-chain -link ../bin >/dev/null

# What a release consists of, in bin/dist: docs/install.md. Each step says how long it took.
dist: $(NFPM)
	@$(AS_RELEASED) go run ./cmd/dist -nfpm $(NFPM) -o bin/dist

# The released Cosmovisor, 1.5.0 as in bench/ and 1.7.1, for the test that goes from it to Solstice and back. The first build takes
# minutes. One that can't be got is done without: the test is skipped for it, with a reason.
cosmovisor:
	@echo "== the released Cosmovisor, for a test"
	@test -x bin/cosmovisor-1.5.0 || { cd bench && CGO_ENABLED=0 go build -trimpath -o ../bin/cosmovisor-1.5.0 cosmossdk.io/tools/cosmovisor/cmd/cosmovisor; } || true
	@test -x bin/cosmovisor-1.7.1 || { mkdir -p bin/taken && cd bin/taken && \
		printf 'module taken\n\ngo 1.26.0\n\nrequire cosmossdk.io/tools/cosmovisor v1.7.1\n' >go.mod && \
		CGO_ENABLED=0 go build -mod=mod -trimpath -o ../cosmovisor-1.7.1 cosmossdk.io/tools/cosmovisor/cmd/cosmovisor; } || true
	@rm -rf bin/taken

# Everything that CI runs.
test: check cosmovisor unit packages e2e

# Format, vet on every platform, staticcheck, in all modules.
check: $(STATICCHECK)
	$(STEP) "gofmt" sh -c 'test -z "$$(gofmt -l $$(git ls-files "*.go") | tee /dev/stderr)"'
	$(STEP) "vet, linux/amd64" go vet ./...
	$(STEP) "build, linux/arm64" $(AS_RELEASED) GOARCH=arm64 go build -o /dev/null ./cmd/solstice
	$(STEP) "vet, darwin/arm64" $(AS_RELEASED) GOOS=darwin GOARCH=arm64 go vet ./...
	$(STEP) "staticcheck" $(STATICCHECK) ./...
	$(STEP) "vet and staticcheck, bench" sh -c 'cd bench && go vet ./... && ../$(STATICCHECK) ./...'

# Units and scripts, under the race detector, which need not sleep for a second at the end of each package.
unit:
	$(STEP) "unit and script tests" env GORACE=atexit_sleep_ms=0 go test -race -timeout 10m ./...

# A release is built, built again elsewhere from nothing, installed, used, removed, and run in a container.
packages: $(NFPM)
	$(STEP) "build a release" $(MAKE) --no-print-directory dist
	$(STEP) "test the release" go test -count=1 -v -timeout 30m ./cmd/dist -dist $(CURDIR)/bin/dist

# Real chains. The first build of the test chain takes minutes; it is kept in the user's cache.
e2e:
	$(STEP) "build the test chain" sh -c 'cd testchain && go run ./cmd/build-chain'
	$(STEP) "vet and staticcheck, test chain" $(AS_BUILT) sh -c 'cd testchain && go vet ./... && ../$(STATICCHECK) ./...'
	$(STEP) "end-to-end tests" $(AS_BUILT) sh -c 'cd testchain && go test -count=1 -timeout 40m ./...'

# Cut off, fail and fill up whatever can be, for as long as FOR says; all of it once, however long that takes. A short form is
# a part of make test.
FOR ?= 30m
chaos:
	go test -count=1 -v -timeout 0 ./chaos -chaos $(FOR)

# Beside Cosmovisor 1.5.0, as ratios; writes docs/benchmarks.md.
bench:
	cd bench && exec go run . -write

$(STATICCHECK):
	$(STEP) "install staticcheck" sh -c 'GOBIN=$(CURDIR)/bin/tmp go install honnef.co/go/tools/cmd/staticcheck@v0.8.2 && mv bin/tmp/staticcheck $@ && rmdir bin/tmp'

$(NFPM):
	$(STEP) "install nfpm" sh -c 'GOBIN=$(CURDIR)/bin/tmp go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2 && mv bin/tmp/nfpm $@ && rmdir bin/tmp'

clean:
	rm -rf bin
