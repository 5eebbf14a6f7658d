# make run: serve the documentation, and a page that shows the loop at work.
# make docs: the site of the documentation, in build/docs-site; open it by make run.
# make check: lint, types and the quick tests, in a minute.  make test: lint and the whole suite.
#   In twice as many processes as there are cores: PROCESSES=1 for less, PYTEST_ARGS for pytest.
# make conformance: the long comparison with the Linux underneath.
# make soak: tests/stress and tests/leaks at ten times their size; AIOPOLL_SOAK=100 for more.
#   Half an hour of it are descriptors that change hands; AIOPOLL_SOAK_SECONDS for less or more.
# make test-vm KERNEL=5.10 ARCH=arm64: the core's tests, or PYTEST_ARGS, in a virtual machine with
#   that kernel of Debian's: 5.10, 6.1, 6.12, newest, or a release; ARCH: x86_64 or arm64.
# make test-debian SUITE=sid PYTHON=python3.15: make test in that release of Debian, with its Python.
#   It needs root and debootstrap; PYTEST_ARGS and PROCESSES as above.
# make test-install SUITE=sid: the wheel and the sdist of make wheels, installed and used in that
#   release of Debian, made anew.  It needs root and debootstrap.
# make test-freethreaded: the package's own tests in a Python without a GIL, which Debian's source
#   is built to in build/freethreaded.  WITHOUT_GIL=3.14 for another than 3.13.
# make test-tsan: the tests of threads there, with Python and the package under ThreadSanitizer.
# make mutants: plants some ninety faults, one at a time, and lists those that the tests miss.
#   MUTANTS="--area ring": --help of tools/mutants.py names what it takes.  Half an hour.
# make dist: the sdist, and a wheel of it for this Python, in dist/.
# make wheels: the sdist, and stripped manylinux wheels for every Python found, for x86-64 and
#   aarch64, in dist/.  Each is checked, and used if it is for this machine.
#   WHEELS="--python python3.13 --target x86_64": less.  "--target musl": Alpine's, not shipped yet.
# make release VERSION=0.2.0: the checklist of a release, in a clone; nothing is uploaded.
# make bench: everyone side by side, into benchmarks/results.  BENCH_ARGS="--goals --rounds 5":
#   --help names them all.  BENCH_ARGS="--compare REV": this checkout beside a commit.
# Another interpreter: make test PYTHON=/path/to/python3.12 (it gets an environment of its own).

PYTHON ?= python3
PORT ?= 8080
ifeq ($(PYTHON),python3)
VENV ?= .venv
else
VENV ?= .venv-$(notdir $(PYTHON))
endif
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(shell find src -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
PYTEST_ARGS ?=
PROCESSES ?= $(shell expr 2 '*' $$(nproc))
PARALLEL_PYTEST = $(BIN)/python -m tests.support.parallel $(PROCESSES)
BENCH_ARGS ?=
MUTANTS ?=
WHEELS ?=

.PHONY: help run docs check test lint test-asan test-vm test-debian test-freethreaded test-tsan test-install conformance soak mutants bench dist wheels release clean check-machine

help:
	@sed -n 's/^# \(make\)/\1/p' Makefile

run: $(VENV)/.built
	@$(MAKE) --no-print-directory docs || echo "make: there is no site: docs/ is served as it is" >&2
	@exec $(BIN)/aiopoll run examples/site.py --port $(PORT)

# The docstrings are in it too.
SITE := build/docs-site
SITE_SOURCES := $(wildcard *.md) $(shell find docs -type f) $(wildcard tools/docs_*.py) \
	$(shell find src -name '*.py' -o -name '*.pyi')
docs: $(SITE)/index.html

$(SITE)/index.html: $(VENV)/.built $(SITE_SOURCES)
	@$(BIN)/python -c 'import zensical' 2>/dev/null || $(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m tools.docs_site $(SITE)
	@touch $@

CHECK_TESTS := tests/aio tests/reactor tests/loop tests/kernel tests/cli tests/meta
check: lint
	$(PARALLEL_PYTEST) -q -m "not slow and not soak" $(CHECK_TESTS) $(PYTEST_ARGS)

test: lint
	$(PARALLEL_PYTEST) $(PYTEST_ARGS)

lint: $(VENV)/.built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases tests/support tests/meta

# Each missing piece is named with the Debian package that has it.
check-machine:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than Python 3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) has no venv: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "make: $(PYTHON) has no headers (Python.h): apt-get install python3-dev" >&2; exit 1; }
	@command -v $${CC:-gcc} >/dev/null || { echo "make: $${CC:-gcc} not found: apt-get install gcc" >&2; exit 1; }
	@echo '#include <stdio.h>' | $${CC:-gcc} -E - >/dev/null 2>&1 || { echo "make: the C library has no headers: apt-get install libc6-dev" >&2; exit 1; }

$(VENV)/.tools: pyproject.toml | check-machine
	@echo "make: installing tools and the programs of the tests into $(VENV); the first time takes minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --group build --group test
	@touch $@

$(VENV)/.built: $(VENV)/.tools $(SOURCES)
	@echo "make: compiling the package; the first time takes a minute or two"
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

# The extension under AddressSanitizer and UBSan, with the debug build's checks, in build/asan.
# PYTHONMALLOC=malloc lets ASan see Python's objects; leaks are the business of tests/leaks.
# An allocation that is too large is a MemoryError, as it is without ASan.  tests/packaging is left
# out: it builds and installs another package, without ASan, by a gcc that would run under it.
test-asan: $(VENV)/.built
	AIOPOLL_SANITIZE=1 AIOPOLL_DEBUG=1 $(BIN)/python setup.py --quiet build \
		--build-base build/asan-objects --build-lib build/asan
	LD_PRELOAD="$$($${CC:-gcc} -print-file-name=libasan.so) $$($${CC:-gcc} -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONMALLOC=malloc PYTHONPATH=$(CURDIR)/build/asan AIOPOLL_DEBUG=1 AIOPOLL_SANITIZED=1 \
	$(PARALLEL_PYTEST) --ignore=tests/packaging $(PYTEST_ARGS)

# Other kernels and machines, and what this machine's limits keep from its end.  Another machine
# gets a wheel that is built here.
KERNEL ?= 6.1
ARCH ?= x86_64
VM_TESTS := -m vm $(addprefix tests/,aio conformance files loop reactor)
VM_WHEEL := build/vm/wheel$(VENV)
test-vm: $(VENV)/.built $(if $(filter arm64,$(ARCH)),$(VM_WHEEL)/.built)
	$(BIN)/python -m tools.vm --kernel $(KERNEL) --arch $(ARCH) \
		$(if $(filter arm64,$(ARCH)),--wheel $(VM_WHEEL)/*.whl) $(or $(PYTEST_ARGS),$(VM_TESTS))

$(VM_WHEEL)/.built: $(VENV)/.wheels $(SOURCES) $(shell find src -name '*.py')
	rm -rf $(VM_WHEEL)
	mkdir -p $(VM_WHEEL)
	$(BIN)/python -m tools.wheels --python $(BIN)/python --target aarch64 --output $(VM_WHEEL) \
		--work $(VM_WHEEL).work
	@touch $@

# A Python that this machine lacks, in build/debian.  No environment is made here.
SUITE ?= sid
test-debian:
	@PYTEST_ARGS='$(PYTEST_ARGS)' PROCESSES=$(PROCESSES) python3 -m tools.debian $(SUITE) $(PYTHON)

WITHOUT_GIL ?= 3.13
test-freethreaded:
	@python3 -m tools.freethreaded --python $(WITHOUT_GIL) --processes $(PROCESSES) -- $(PYTEST_ARGS)

test-tsan:
	@python3 -m tools.freethreaded --python $(WITHOUT_GIL) --sanitize --processes $(PROCESSES) -- $(PYTEST_ARGS)

test-install:
	@python3 -m tools.fresh $(SUITE)

# The long comparison of aiopoll.kernel with the Linux underneath.
conformance: $(VENV)/.built
	AIOPOLL_DIFFERENTIAL_OPERATIONS=100000 AIOPOLL_LINKS=1 \
		$(BIN)/python -m pytest -o faulthandler_timeout=1800 tests/conformance tests/sim/test_netem.py \
		$(addprefix tests/kernel/test_,differential.py socket_differential.py) $(PYTEST_ARGS)

# AIOPOLL_SOAK multiplies the number of connections, timers, signals and examples;
# AIOPOLL_SOAK_SECONDS is how long descriptors change hands on each backend: half an hour for both.
AIOPOLL_SOAK ?= 10
AIOPOLL_SOAK_SECONDS ?= 900
soak: $(VENV)/.built
	AIOPOLL_SOAK=$(AIOPOLL_SOAK) AIOPOLL_SOAK_SECONDS=$(AIOPOLL_SOAK_SECONDS) AIOPOLL_SOAK_RATE=1000 \
		$(BIN)/python -m pytest -o faulthandler_timeout=0 \
		tests/stress tests/leaks $(addprefix tests/sim/test_,toys.py kv.py generated.py) $(PYTEST_ARGS)

# Each in a copy of the checkout; tools/mutants.toml has the faults.
mutants: $(VENV)/.built
	$(BIN)/python tools/mutants.py $(MUTANTS)

bench: $(VENV)/.bench
	@exec $(BIN)/aiopoll bench $(BENCH_ARGS)

$(VENV)/.bench: $(VENV)/.built pyproject.toml
	$(BIN)/python -m benchmarks.install
	@touch $@

# setuptools adds to an sdist what an older list in src/*.egg-info names.
dist: $(VENV)/.tools
	rm -rf dist src/*.egg-info
	$(BIN)/python -c 'from setuptools.build_meta import build_sdist; build_sdist("dist")'
	$(BIN)/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz

wheels: $(VENV)/.wheels
	$(BIN)/python -m tools.wheels $(WHEELS)

$(VENV)/.wheels: $(VENV)/.tools pyproject.toml
	$(BIN)/python -m pip install --quiet --group wheels
	@touch $@

# VERSION is the new one; RELEASE has the options of tools/release.py.
RELEASE ?=
release: $(VENV)/.release
	$(BIN)/python -m tools.release $(VERSION) $(RELEASE)

$(VENV)/.release: $(VENV)/.tools pyproject.toml
	$(BIN)/python -m pip install --quiet --group release
	@touch $@

clean:
	rm -rf .venv .venv-* build dist src/*.egg-info
	find src \( -name '*.c' -o -name '*.so' \) -delete
