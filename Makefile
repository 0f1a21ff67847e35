# OSv in Go. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

APP  ?= ./kernel/ktest/progs/hello
CPUS ?= 2
MEM  ?= 256
MACHINE ?= q35
APPEND ?=
NET  ?=
OUT  ?= build/$(notdir $(patsubst %/,%,$(APP))).elf
# The description of a Linux program, where APP is the name of one.
PROGRAM = $(wildcard appliances/linux/$(APP).yaml)
RUN  ?=
COUNT ?= 1
DURATION ?=
PLAN ?=
FUZZTIME ?= 10s
DEBS := qemu-system-x86 qemu-utils seabios ipxe-qemu gcc libc6-dev binutils iproute2 iperf3 iperf memcached libmemcached-tools cpio xz-utils e2fsprogs curl wrk iputils-ping ovmf netcat-openbsd

# Packages with test code: all but the programs that only boot.
PKGS = $(shell go list ./... | grep -v /ktest/progs/)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'
	@echo "Variables: PLAN=default|quick|full|flagship|iperf|unmodified APP=./package CPUS=2 MEM=256 MACHINE=q35|pc|microvm APPEND='options' NET=… RUN=pattern"

.PHONY: deps
deps: ## install the Debian packages that tests and benchmarks use (as root), or name them
	@missing=""; for p in $(DEBS); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "missing packages; run: sudo apt-get install$$missing"; exit 1; fi

.PHONY: go
go:
	@command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer from https://go.dev/dl/"; exit 1; }

.PHONY: build
build: go ## build APP as a bootable ELF at OUT (build/NAME.elf)
	@go run ./harness/cmd/mkelf -o $(OUT) $(APP)
	@ls -l $(OUT) | awk '{print $$NF ": " $$5 " bytes"}'

.PHONY: test
test: go deps ## hosted tests, with the race detector
	go test -race -short $(PKGS)

.PHONY: test-long
test-long: go deps ## the same with full sizes: longer stress, more seeds, a million commands
	go test -race -timeout 60m $(PKGS)

.PHONY: cover
cover: go ## statement coverage of the kernel above metal, and of the harness
	@mkdir -p build
	@go test -short -coverprofile=build/kernel.cov -coverpkg=$$(go list ./kernel/... | grep -vE '/metal/|/ktest/' | paste -sd,) $$(go list ./kernel/... | grep -vE '/ktest/progs/') > build/cover.log || { cat build/cover.log; exit 1; }; go tool cover -func=build/kernel.cov | tail -1 | sed 's/^/kernel above metal: /'
	@go test -short -coverprofile=build/harness.cov -coverpkg=./harness/... ./harness/... > build/cover.log || { cat build/cover.log; exit 1; }; go tool cover -func=build/harness.cov | tail -1 | sed 's/^/harness: /'
	@go test -short -coverprofile=build/capstan.cov -coverpkg=$$(go list ./capstan/... | grep -v /internal/ | paste -sd,) ./capstan/... > build/cover.log || { cat build/cover.log; exit 1; }; go tool cover -func=build/capstan.cov | tail -1 | sed 's/^/capstan: /'

.PHONY: syscalls
syscalls: go ## print the table of system calls: full, partial, none, and why
	@go run ./kernel/linux/cmd/syscalls

.PHONY: check
check: go ## gofmt, vet, layers, and "no heap below the runtime"
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt: $$bad"; exit 1; }
	go vet -unsafeptr=false ./...
	go run ./harness/cmd/lint all
	go test -count=1 -run TestLayers ./kernel

.PHONY: boot-test
boot-test: go deps ## boot every test program on q35, pc and microvm with 1, 2 and 4 vCPUs (RUN=, COUNT=)
	go run ./harness/cmd/boottest kernel/ktest/progs $(if $(RUN),--run '$(RUN)') --count $(COUNT)
	$(if $(RUN),,go test -tags boot -count=1 -run TestPowerButton ./harness/boottest)

.PHONY: image-test
image-test: go deps ## boot every image format in QEMU dressed as its target; a real client must get its answer
	go test -tags boot -count=1 -timeout 30m -run TestBoot ./harness/diskimage

.PHONY: images
images: go ## disk images of osv, memcached and iperf in every format, with index.json and SHA256SUMS, in build/images
	@go run ./harness/cmd/images build ./appliances/osv ./appliances/memcached ./appliances/iperf --out build/images

.PHONY: boot-bench
boot-bench: go deps ## boot time, RAM floor, size and call costs beside a Linux guest
	go run ./harness/cmd/bootbench

.PHONY: run
run: $(if $(PROGRAM),go,build) ## boot APP in QEMU (prints the QEMU line first); APP=linux-memcached and its kin: Linux programs
	@go run ./harness/cmd/osvrun --cpus $(CPUS) --mem $(MEM) --machine $(MACHINE) $(if $(NET),--net $(NET)) --append '$(APPEND)' $(or $(PROGRAM),$(OUT))

.PHONY: debug
debug: build ## boot APP stopped, waiting for GDB; prints the gdb command
	@go run ./harness/cmd/osvrun --gdb --cpus $(CPUS) --mem $(MEM) --machine $(MACHINE) $(if $(NET),--net $(NET)) --append '$(APPEND)' $(OUT)

.PHONY: capstan
capstan: go ## build the image tool as build/capstan
	@mkdir -p build && go build -trimpath -o build/capstan ./capstan/cmd/capstan

.PHONY: download
download: go ## fetch prebuilt images from CAPSTAN_REPO_URL; without one it says how to build them
	@go run ./capstan/cmd/capstan pull memcached iperf

.PHONY: soak
soak: go deps ## real clients, floods, garbage and power cuts against booted guests (RUN=, DURATION=10m)
	go run ./harness/cmd/soak $(if $(RUN),--run '$(RUN)') $(if $(DURATION),--duration $(DURATION))

.PHONY: soak-short
soak-short: go deps ## the same in two to three minutes
	go run ./harness/cmd/soak --short

.PHONY: test-gvisor
test-gvisor: go ## our TCP and gVisor's over bad wires of 1000 seeds (a module of its own; SHORT=1 for a few)
	cd kernel/ktest/gvisor && go test -race -parallel 8 $(if $(SHORT),-short) .

.PHONY: bench
bench: go deps ## Linux guest against OSv guest: the main job; ends with a table and a report under results/ (PLAN=)
	go run ./harness/cmd/bench run $(if $(PLAN),--plan $(PLAN))

.PHONY: iperf-bench
iperf-bench: go deps ## bulk TCP both ways, OSv against iperf3 in the Linux guest
	go run ./harness/cmd/bench run --plan iperf

.PHONY: net-bench
net-bench: go ## ns per packet of the hot paths, compared by benchstat with what is kept (KEEP=1 keeps this run)
	@mkdir -p build results/net-bench
	go test -run '^$$' -bench . -benchmem -count 6 ./kernel/net/... ./kernel/drivers/... ./kernel/pkt | grep -v 'no test files' | tee build/net-bench.txt
	$(if $(KEEP),cp build/net-bench.txt results/net-bench/kept.txt && go tool benchstat results/net-bench/kept.txt > results/net-bench/table.txt)
	go tool benchstat results/net-bench/kept.txt build/net-bench.txt

.PHONY: syscall-bench
syscall-bench: go deps ## what system calls cost a Linux program, in OSv and in Linux, in one table
	go run ./harness/cmd/sysbench

.PHONY: pgo
pgo: go ## make the compiler profiles of memcached and of the Linux ABI anew from hosted benchmarks
	@mkdir -p build
	go test -run '^$$' -bench Path/UDP -benchtime 6s -cpuprofile build/udp.prof -o build/path.test ./appliances/memcached/server
	go test -run '^$$' -bench Path/TCP -benchtime 2s -cpuprofile build/tcp.prof -o build/path.test ./appliances/memcached/server
	go tool pprof -proto build/udp.prof build/tcp.prof > appliances/memcached/default.pgo
	go test -run '^$$' -bench Calls -benchtime 2s -cpuprofile build/linux.prof -o build/linux.test ./kernel/linux
	go tool pprof -proto build/linux.prof > appliances/linux/default.pgo

.PHONY: publish
publish: go ## results/site: an index over the runs under results/
	go run ./harness/cmd/bench publish

.PHONY: fuzz
fuzz: go ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $(PKGS); do dir=$$(go list -f '{{.Dir}}' $$pkg); \
	  for f in $$(grep -hoE '^func (Fuzz[A-Za-z0-9_]+)' $$dir/*_test.go 2>/dev/null | awk '{print $$2}'); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; done; done

.PHONY: clean
clean: ## remove build/
	rm -rf build
