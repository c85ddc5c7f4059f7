# Trireme: containers on HPC machines without root. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build try test test-full test-vm images images-full store bench fuzz fmt check clean install
# One step at a time: each uses all cores itself.
.NOTPARALLEL:

PREFIX ?= /usr/local
PROGRAMS := trireme trireme-cli trireme-agent trireme-mount trireme-pmix
BIN := $(CURDIR)/.build/bin
IMAGES := $(CURDIR)/.try/images
# Fully static: one file runs in any image and on any distribution.
# Debug information would be stripped (-s) all the same, and making it is a quarter of the build's time.
STATIC := -c release -debug-info-format none --static-swift-stdlib -Xswiftc -static-executable -Xlinker -s -Xlinker --gc-sections

# The backtracer would hold a crashed test's pipes open.
export SWIFT_BACKTRACE := enable=no

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the programs, static, in .build/bin
	@Scripts/install-dependencies
	swift build $(STATIC) --product trireme-cli
	swift build $(STATIC) --product trireme-agent
	swift build $(STATIC) --product trireme-mount
	@mkdir -p $(BIN)
	Scripts/build-launcher .build/release/trireme
	Scripts/build-pmix .build/release/trireme-pmix
	Scripts/build-inflate .build/release/trireme-inflate
	@for program in $(PROGRAMS) $$(cd .build/release && ls trireme-inflate 2>/dev/null || true); do install -m 755 .build/release/$$program $(BIN)/.$$program.new; mv $(BIN)/.$$program.new $(BIN)/$$program; done

images: ## the images of Recipes/, in .try/images
	@Scripts/install-dependencies
	@Scripts/build-images $(IMAGES)

images-full:
	@Scripts/install-dependencies
	@Scripts/build-images $(IMAGES) --all

try: ## a real MPI job, in containers, on a rootless Slurm cluster (about a minute once built)
	@Scripts/try

# Clusters and jobs under test run these images; tests of the store itself make their own.
STORE := $(CURDIR)/.try/store
TEST := TRIREME_BIN=$(BIN) TRIREME_TEST_IMAGES=$(IMAGES) TRIREME_STORE=$(STORE)
store: build images
	@for image in $(IMAGES)/*.tar; do TRIREME_STORE=$(STORE) $(BIN)/trireme image load -q -i $$image; done

test: store ## every test but the long ones
	$(TEST) Scripts/run-tests

test-full: images-full store ## every test, the examples, the fuzzers and the emulated machine
	@Scripts/install-dependencies --bench
	$(TEST) TRIREME_TEST_FULL=1 Scripts/run-tests
	$(TEST) Examples/openfoam/run
	@$(MAKE) fuzz
	@$(MAKE) test-vm

test-vm: build ## what needs a kernel of its own, in an emulated machine (half a minute)
	@Scripts/install-dependencies --vm
	@Scripts/vm $(BIN)

bench: build images ## speed and memory against other tools, in the same run
	@Scripts/install-dependencies --bench
	@Benchmarks/run $(BIN) $(IMAGES)

FUZZ_SECONDS ?= 60
# The launcher frees nothing, as it becomes the application: its fuzzer starts afresh before memory is used up.
fuzz: ## the fuzzers of Fuzz/, each for FUZZ_SECONDS (60)
	@for fuzzer in PlanFuzzer CommandLineFuzzer ArchiveFuzzer ImageTextFuzzer RegistryRequestFuzzer LeaderFrameFuzzer SquashFuzzer; do \
	  swift build --package-path Fuzz --scratch-path .build/fuzz -c release --product $$fuzzer; \
	  mkdir -p .try/fuzz/$$fuzzer Fuzz/Corpus/$$fuzzer; runs=-1; \
	  if [ $$fuzzer = CommandLineFuzzer ]; then runs=100000; fi; \
	  end=$$((SECONDS + $(FUZZ_SECONDS))); \
	  while [ $$SECONDS -lt $$end ]; do \
	    .build/fuzz/release/$$fuzzer -runs=$$runs -max_total_time=$$((end - SECONDS)) -max_len=16384 -print_final_stats=1 \
	      -artifact_prefix=.try/fuzz/ .try/fuzz/$$fuzzer Fuzz/Corpus/$$fuzzer 2>&1 | tail -n 6; \
	  done; \
	done

fmt: ## formats the sources
	swift format --in-place --recursive --parallel Package.swift Sources Tests Fuzz/Package.swift Fuzz/Sources/*Fuzzer

check: ## format, the tree's own rules, shell scripts
	swift format lint --strict --recursive --parallel Package.swift Sources Tests
	@for script in Scripts/* Benchmarks/run Benchmarks/peers Examples/*/run .ci/run; do bash -n $$script; done
	swift test --filter TidyTests

clean: ## removes what was built
	rm -rf .build .try

install: build ## installs into PREFIX (default /usr/local); the directory can be moved later
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/trireme
	install -m 755 $(addprefix $(BIN)/,$(PROGRAMS)) $(wildcard $(BIN)/trireme-inflate) $(DESTDIR)$(PREFIX)/bin
	install -m 644 LICENSE README.md CHANGELOG.md SECURITY.md CONTRIBUTING.md $(DESTDIR)$(PREFIX)/share/doc/trireme
	cp -r Documentation Examples $(DESTDIR)$(PREFIX)/share/doc/trireme/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN)/trireme-cli --generate-completion-script bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/trireme
	$(BIN)/trireme-cli --generate-completion-script zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_trireme
	$(BIN)/trireme-cli --generate-completion-script fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/trireme.fish
