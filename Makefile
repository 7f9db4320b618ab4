# Nothing here needs the network, an account, or more than Go.
export GOTOOLCHAIN ?= local
export GOFLAGS ?= -mod=mod
export GOPROXY = off

.PHONY: help demo test check fuzz bench golden consumer

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## log in, edit, refresh and log in again, against the built-in fake wiki
	go run ./examples/login

test: ## run the tests, examples and fuzz seeds among them
	go test ./...

check: ## what a change must pass: gofmt, go vet, the tests with -race, a consumer that vendors the library
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these'; exit 1; }
	@! grep -nE '^[[:space:]]*(require|replace|tool)' go.mod
	go vet ./...
	go test -race ./...
	$(MAKE) --no-print-directory consumer

consumer: ## build a module that vendors the library
	@d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && lib=$$(pwd) && cp testdata/consumer.go.txt "$$d/main.go" && cd "$$d" && \
	go mod init consumer.example >/dev/null 2>&1 && \
	go mod edit -require mediawiki.example/oauth2@v0.0.0 -replace "mediawiki.example/oauth2=$$lib" && \
	GOFLAGS= go mod vendor && GOFLAGS=-mod=vendor go build -o consumer . && ./consumer && \
	test "$$(grep -c '^# mediawiki.example/oauth2' vendor/modules.txt)" -ge 1 && \
	test -z "$$(grep '^# ' vendor/modules.txt | grep -v '^# mediawiki.example/oauth2')" && echo 'ok	a consumer that vendors the library'

FUZZTIME ?= 30s
fuzz: ## run every fuzz target for FUZZTIME each
	@for p in $$(go list ./...); do for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
		echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$p || exit 1; done; done

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

golden: ## rewrite the golden files after a considered change
	go test . -update
