# `make demo` and `make test` do everything on a fresh Debian 12: install the packages that are missing, configure, build, run.
# The rest is for people who work on the program; `make help` lists it.

JOBS ?= $(shell nproc)
WERROR ?= OFF
FUZZ_SECONDS ?= 60

# The window is built where its sources and VTK are there.
window := $(if $(wildcard widgets/CMakeLists.txt),window)
# ThreadSanitizer of GCC 12 cannot live with more than 28 random address bits.
tsan_run := $(shell [ "$$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -gt 28 ] && setarch -R true 2>/dev/null && echo setarch -R)

# $(call configure_and_build,preset,settings,targets)
configure_and_build = cmake --preset $(1) -DPATCHLIGHT_WERROR=$(WERROR) $(2) && cmake --build --preset $(1) --parallel $(JOBS) $(3)

.PHONY: demo test test-build build asan asan-build tsan tsan-build tidy fuzz fuzz-build golden format install package clean help

demo:
	@scripts/install-dependencies build $(window)
	@$(call configure_and_build,release,,--target patchlight $(if $(window),patchlight-gui))
	@scripts/demo

test-build:
	@scripts/install-dependencies build test mpi $(window)
	@$(call configure_and_build,release,-DPATCHLIGHT_TESTS=ON)

# One more than there are cores: mpi_slurm waits for most of its time.
test: test-build
	@ctest --preset release --parallel $$(($(JOBS) + 1))

build: ## configure and build the release preset
	@scripts/install-dependencies build $(window)
	@$(call configure_and_build,release)

asan-build:
	@scripts/install-dependencies build test $(window)
	@$(call configure_and_build,asan-ubsan,-DPATCHLIGHT_TESTS=ON)

asan: asan-build ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@ctest --preset asan-ubsan --parallel $(JOBS)

tsan-build:
	@scripts/install-dependencies build test $(window)
	@$(call configure_and_build,tsan,-DPATCHLIGHT_TESTS=ON)

tsan: tsan-build ## the tests under ThreadSanitizer
	@$(tsan_run) ctest --preset tsan --parallel $(JOBS)

tidy: ## clang-tidy over all sources
	@scripts/install-dependencies build test tidy $(window)
	@$(call configure_and_build,debug,-DPATCHLIGHT_TESTS=ON)
	@scripts/tidy -p build/debug

fuzz-build:
	@scripts/install-dependencies build fuzz
	@# The optimised program makes the files that fuzzing starts from.
	@$(call configure_and_build,release,,--target patchlight)
	@$(call configure_and_build,fuzz)

fuzz: fuzz-build ## fuzz the file readers for FUZZ_SECONDS each
	@scripts/fuzz build/fuzz $(FUZZ_SECONDS)

golden: ## compare with the reference results, where ../shared has them
	@scripts/install-dependencies build golden $(window)
	@$(call configure_and_build,release)
	@/usr/bin/python3 scripts/check-golden build/release/app/patchlight

format: ## lay out all sources as .clang-format says
	@scripts/install-dependencies test
	@scripts/check-format --fix

install: build ## install into PREFIX (default /usr/local)
	@cmake --install build/release --prefix $(or $(PREFIX),/usr/local)

package: build ## Debian packages in build/release
	@cd build/release && cpack

clean: ## remove everything that was built
	@rm -rf build

help:
	@echo 'make demo     simulate an exposure, extract it, compare it with the truth'
	@echo 'make test     build and run all tests'
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b; do printf '%-13s %s\n' "$$a" "$$b"; done
