# Every chore of the project.  `make help` lists them.
#
# PYTHON is the interpreter the virtual environments are made from; VENV is where.
# SCRIPTLING_WS_EXTENSION=yes makes a missing compiled kernel an error.

PYTHON ?= python3
VENV ?= .venv
export SCRIPTLING_WS_EXTENSION ?= auto
# Tests start hundreds of programs, and each worker rewrites the asserts of all files: what was compiled
# once has to be there for the next.
unexport PYTHONDONTWRITEBYTECODE

RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip --disable-pip-version-check
NODE_MODULES = tests/peers/node_modules
KERNEL = src/_wsframe.pyx $(wildcard src/_wsframe/*)

.DEFAULT_GOAL := help
.PHONY: help demo chat screenshots docs docs-links test test-compiled test-pure test-newest test-gevent jitter field \
    install-check lint format api peers \
    programs conformance conformance-gate free-threaded pypy architectures fuzz fuzz-quick sanitize \
    coverage mutants soak \
    wheels wheels-free-threaded bench bench-quick bench-server figures callgrind clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST) | awk -F': ' '{printf "  make %-20s %s\n", $$1, $$2}'

# pip 25.1 is the first that installs dependency groups.
$(VENV)/made: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade "pip>=25.1"
	@touch $@

# The package, in place: .py files are used where they are, the kernel is built
# anew when its source has changed.
$(VENV)/installed: $(VENV)/made setup.py $(KERNEL)
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) install --quiet --group test
	@touch $@

$(VENV)/linted: $(VENV)/tested
	$(PIP) install --quiet --group lint
	@$(PIP) install --quiet --group actionlint >/dev/null 2>&1 || true
	@$(PIP) install --quiet --only-binary :all: --group hadolint >/dev/null 2>&1 || true
	@touch $@

demo: $(VENV)/installed ## the calls of scriptling.websocket at work, and their speed
	$(VENV)/bin/scriptling-ws demo

# Several processes meet at a Redis server: make chat REDIS=redis://127.0.0.1 CHAT_ARGS="--processes 2"
chat: $(VENV)/installed ## the chat of examples/, on port 8080; REDIS=URL, CHAT_ARGS=...
	$(if $(REDIS),$(PIP) install --quiet "redis>=5")
	$(RUN) examples/chat/serve.py $(if $(REDIS),--redis $(REDIS)) $(CHAT_ARGS)

screenshots: $(VENV)/tested ## pictures of the pages of examples/; docs/examples.md shows some
	$(RUN) tests/screenshots.py

SITE = out/site
SPHINX = $(RUN) -m sphinx --doctree-dir out/doctrees

$(VENV)/documented: $(VENV)/tested
	$(PIP) install --quiet --group docs
	@touch $@

# DOCS_REPOSITORY is where the repository is on the web; without it the site shows the files it links.
docs: $(VENV)/documented ## the site of docs/, in out/site: built without a warning, its links and pages checked
	$(RUN) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'docs: Sphinx needs Python 3.11')"
	rm -rf $(SITE)
	$(SPHINX) --builder html --fail-on-warning --keep-going --fresh-env --quiet docs $(SITE)
	SCRIPTLING_WS_SITE=$(SITE) $(RUN) -m pytest --quiet tests/docs/test_site.py

docs-links: $(VENV)/documented ## whether the site's links to other sites lead somewhere; it needs the internet
	$(SPHINX) --builder linkcheck docs out/links

# Worker processes share a run: `auto` is as many as conftest.py says, 0 has all tests in one process, as
# a debugger needs it. A worker that has nothing left takes over from another; so most tests of a file
# stay together, with the fixtures that they share.
WORKERS ?= auto
PYTEST = $(RUN) -m pytest --numprocesses $(WORKERS) --dist worksteal

test: test-compiled ## all tests, on both codecs; once those in which the codec has no part
	SCRIPTLING_WS_ONCE=yes $(MAKE) test-pure

test-compiled: $(VENV)/tested peers ## all tests, on the compiled codec if there is one
	$(PYTEST) $(PYTEST_ARGS)

test-pure: $(VENV)/tested peers ## all tests, on the pure codec
	SCRIPTLING_WS_PURE=1 $(PYTEST) $(PYTEST_ARGS)

# Versions of CPython differ in what the kernel goes by. BENCH_PYTHON is the newest one that is known here.
NEWEST = tests/wire tests/connection tests/network tests/handshakes tests/server tests/rooms tests/client
test-newest: ## tests of what goes by it, with the newest CPython here if that is not PYTHON
	@if [ "$$($(BENCH_PYTHON) -V)" = "$$($(PYTHON) -V)" ]; then \
	    echo "skipped: there is no newer CPython here than $$($(PYTHON) -V)"; \
	else \
	    $(MAKE) test-compiled VENV=.venv-newest PYTHON=$(BENCH_PYTHON) \
	        PYTEST_ARGS="$(NEWEST) $(PYTEST_ARGS)"; \
	fi

# Patched by gevent, so that the tests' own waits let the server's greenlets run; but floods, which
# would keep all to themselves, are threads: their servers are other processes, with that engine.
FLOODS = tests/server/test_server_floods.py
test-gevent: $(VENV)/tested peers ## tests of the server, rooms and waiting clients, with the engine of gevent
	$(RUN) -m gevent.monkey --module pytest $(PYTEST_ARGS) tests/handshakes/test_paths.py \
	    tests/server tests/rooms tests/connection/test_silence.py \
	    tests/connection/test_pairing.py tests/connection/test_readiness.py \
	    tests/client/test_reconnecting.py --ignore=$(FLOODS)
	SCRIPTLING_WS_ENGINE=gevent $(PYTEST) $(PYTEST_ARGS) $(FLOODS)

# A test that fails takes an order of threads for granted, or the package does. Another SEED, another order.
JITTER = tests/server tests/connection tests/rooms tests/client tests/handshakes tests/network \
    tests/adapters tests/test_examples.py tests/test_examples_chat.py \
    tests/test_examples_chat_redis.py tests/test_examples_dashboard.py
jitter: $(VENV)/tested peers ## tests of what has threads, which pause at random; SEED=0, JITTER=files
	SCRIPTLING_WS_JITTER=$(SEED) $(PYTEST) $(PYTEST_ARGS) $(JITTER)

# What public bug reports tell of: not a part of the repository, but run where it lies beside it.
FIELD ?= ../shared/field/check.py

field: $(VENV)/tested ## the field's reports where they are, with both engines; FIELD=...
	@if [ -f $(FIELD) ]; then \
	    echo "with threads:" && $(RUN) $(FIELD) && \
	    echo "with gevent:" && PYTHONPATH=tests/patched $(RUN) $(FIELD); \
	else echo "skipped: there are no field reports in $(FIELD)"; fi

peers: ## Node's ws and axe-core, for the tests with them; skipped where there is no npm
	@if command -v npm >/dev/null && [ ! -d $(NODE_MODULES)/ws -o ! -d $(NODE_MODULES)/axe-core ]; then \
	    npm install --prefix tests/peers --no-package-lock --no-audit --no-fund --loglevel=error; \
	fi

# It names what is missing in the end, and fails then.
programs: ## nginx, HAProxy, Caddy, Chromium, Redis and proxies, for the tests with them; installed as root on a Debian
	@tests/support/programs.sh

# Without a compiler: the package has to install pure and work, or, where the kernel is
# required, to fail.
install-check: ## install without a compiler, with and without the kernel required
	rm -rf out/install-check && mkdir -p out && git clone --quiet . out/install-check/source
	$(PYTHON) -m venv out/install-check/venv
	cd out/install-check && CC=false SCRIPTLING_WS_EXTENSION=auto venv/bin/python -m pip \
	    --disable-pip-version-check install --quiet ./source
	cd out/install-check && venv/bin/scriptling-ws --version | grep pure
	cd out/install-check && venv/bin/scriptling-ws demo >/dev/null
	cd out/install-check && ! CC=false SCRIPTLING_WS_EXTENSION=yes venv/bin/python -m pip \
	    --disable-pip-version-check install --quiet --force-reinstall --no-deps ./source 2>/dev/null

# The Autobahn testsuite runs on CPython 2.7 (PYTHON27=..., the PATH's or pyenv's), in
# .venv-autobahn.
conformance: $(VENV)/installed ## the Autobahn testsuite, all of it, on both codecs; half an hour
	cd tests && PYTHONPATH=support $(abspath $(RUN)) -m conformance

conformance-gate: $(VENV)/installed ## the same in a minute; skipped where there is no Python 2.7
	cd tests && PYTHONPATH=support $(abspath $(RUN)) -m conformance --gate

# FREE_THREADED can name a free-threaded CPython; else one is built, which takes minutes
# (its source: see the script).
FREE_THREADED ?= out/free-threaded/bin/python3
FREE_VENV = .venv-free-threaded
FREE_RUN = $(FREE_VENV)/bin/python

out/free-threaded/bin/python3:
	tests/free_threaded/build.sh out/free-threaded

# Wheels alone: what has none for this interpreter is taken in an older version.
$(FREE_VENV)/installed: $(FREE_THREADED) pyproject.toml setup.py $(KERNEL)
	$(FREE_THREADED) -m venv $(FREE_VENV)
	$(FREE_RUN) -m pip install --quiet --upgrade "pip>=25.1"
	$(FREE_RUN) -m pip install --quiet --only-binary :all: --group test-base
	SCRIPTLING_WS_EXTENSION=yes $(FREE_RUN) -m pip install --quiet --editable .
	@touch $@

free-threaded: $(FREE_VENV)/installed $(VENV)/tested peers ## all tests on a free-threaded CPython
	$(FREE_RUN) -W error -c "import scriptling_ws._wsframe, sys; assert not sys._is_gil_enabled()"
	for pure in 0 1; do \
	    PYTHON_GIL=0 SCRIPTLING_WS_EXTENSION=yes SCRIPTLING_WS_PURE=$$pure \
	    PYTHONPATH=$(CURDIR)/tests/stand_ins TRUSTME_PYTHON=$(abspath $(RUN)) \
	    $(FREE_RUN) -m pytest $(PYTEST_ARGS) || exit; \
	done

# PYPY can name a PyPy; of those on the PATH the newest that is known is taken.
PYPY ?= $(shell command -v pypy3.11 || command -v pypy3)
PYPY_VENV = .venv-pypy
PYPY_RUN = $(PYPY_VENV)/bin/python

# Wheels alone here too.
$(PYPY_VENV)/installed: pyproject.toml setup.py
	@[ -n "$(PYPY)" ] || { echo "pypy: there is no PyPy on the PATH: give PYPY=..." >&2; exit 1; }
	@$(PYPY) -c "import sys; sys.exit(sys.implementation.name != 'pypy' or sys.version_info < (3, 10))" \
	    || { echo "pypy: $(PYPY) is not a PyPy of 3.10 or later" >&2; exit 1; }
	$(PYPY) -m venv $(PYPY_VENV)
	$(PYPY_RUN) -m pip install --quiet --upgrade "pip>=25.1"
	$(PYPY_RUN) -m pip install --quiet --only-binary :all: --group test-base
	SCRIPTLING_WS_EXTENSION=no $(PYPY_RUN) -m pip install --quiet --editable .
	@touch $@

pypy: $(PYPY_VENV)/installed $(VENV)/tested peers ## all tests on PyPy, on the pure codec
	SCRIPTLING_WS_EXTENSION=no PYTHONPATH=$(CURDIR)/tests/stand_ins TRUSTME_PYTHON=$(abspath $(RUN)) \
	    $(PYPY_RUN) -m pytest $(PYTEST_ARGS)

# On a Debian: what it downloads, and in what it runs, see tests/architectures/run.py.
architectures: $(VENV)/made ## the kernel's tests on other processors, in QEMU; ARCHITECTURES_ARGS=...
	$(RUN) tests/architectures/run.py $(ARCHITECTURES_ARGS)

# A wheel for every CPython of the machine, tested outside the tree: see tests/wheels.py.
WHEELS_VENV = .venv-wheels

$(WHEELS_VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(WHEELS_VENV)
	$(WHEELS_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(WHEELS_VENV)/bin/python -m pip install --quiet --group wheels
	@touch $@

wheels: $(WHEELS_VENV)/installed ## the sdist, a wheel for every CPython here, each tested
	$(WHEELS_VENV)/bin/python tests/wheels.py

wheels-free-threaded: $(WHEELS_VENV)/installed $(FREE_THREADED) ## the same for a free-threaded CPython
	$(WHEELS_VENV)/bin/python tests/wheels.py --free-threaded $(FREE_THREADED)

# CPython 3.13 if there is one: interpreters differ, and the documented figures are of that.
BENCH_PYTHON ?= $(shell python3.13 -c 'import sys; print(sys.executable)' 2>/dev/null \
    || ls "$$(pyenv prefix 3.13 2>/dev/null)/bin/python3" 2>/dev/null || command -v $(PYTHON))
BENCH_VENV = .venv-bench

$(BENCH_VENV)/installed: pyproject.toml setup.py $(KERNEL)
	$(BENCH_PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	SCRIPTLING_WS_EXTENSION=yes $(BENCH_VENV)/bin/python -m pip install --quiet --editable .
	$(BENCH_VENV)/bin/python bench/install.py
	@touch $@

bench: $(BENCH_VENV)/installed ## measure against the peers, under 15 minutes; BENCH_ARGS=...
	$(BENCH_VENV)/bin/python -m bench --json out/bench/full.json --charts docs/charts $(BENCH_ARGS)

bench-quick: $(BENCH_VENV)/installed ## the same in 2 minutes, indicative
	$(BENCH_VENV)/bin/python -m bench --quick --json out/bench/quick.json $(BENCH_ARGS)

# QUICK=1: fewer and shorter rounds, and no chart.
bench-server: $(BENCH_VENV)/installed ## the server under load, against its peers; QUICK=1, BENCH_ARGS=...
	$(BENCH_VENV)/bin/python -m bench.server $(if $(QUICK),--quick,--charts docs/charts) \
	    --json out/bench/server.json $(BENCH_ARGS)

# What both have measured. A run of some of the server's scenarios may follow the one of all: see
# bench/publish.py.
figures: $(BENCH_VENV)/installed ## put the results of bench and bench-server into docs/performance.md and the README
	$(BENCH_VENV)/bin/python -m bench.publish --client out/bench/full.json \
	    --server out/bench/server.json $(FIGURES_ARGS)

callgrind: $(BENCH_VENV)/installed ## instructions per call of the kernel, under valgrind
	$(BENCH_VENV)/bin/python -m bench.callgrind
	$(BENCH_VENV)/bin/python bench/documents.py

# atheris is behind the newest CPython: the fuzzers have the benchmark's interpreter.
FUZZ_VENV = .venv-fuzz
SECONDS ?= 120

$(FUZZ_VENV)/installed: pyproject.toml setup.py $(KERNEL)
	$(BENCH_PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	SCRIPTLING_WS_EXTENSION=yes $(FUZZ_VENV)/bin/python -m pip install --quiet --editable .
	$(FUZZ_VENV)/bin/python -m pip install --quiet --group fuzz --group test
	@touch $@

fuzz: $(FUZZ_VENV)/installed ## every fuzz target for a share of SECONDS=120; FUZZ_ARGS=...
	$(FUZZ_VENV)/bin/python fuzz/run.py --seconds $(SECONDS) $(FUZZ_ARGS)

# Changed seeds alone, the same ones each time: it needs no atheris.
fuzz-quick: $(VENV)/tested ## the same blindly, in half a minute
	$(RUN) fuzz/run.py --random --seconds 30 $(FUZZ_ARGS)

# The kernel alone is built with the sanitizers, apart from the other builds; the first
# report ends the run. PYTHONMALLOC: every object is a block that AddressSanitizer knows.
SANITIZED = out/sanitize
SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1
SANITIZED_RUN = LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:log_path=$(CURDIR)/$(SANITIZED)/report \
    UBSAN_OPTIONS=print_stacktrace=1:log_path=$(CURDIR)/$(SANITIZED)/report \
    PYTHONPATH=$(SANITIZED)/lib $(RUN)
SANITIZED_TARGETS = channel kernel_encode kernel_io kernel_lists kernel_mask kernel_read \
    kernel_rooms protocol_chunks outgoing

sanitize: $(VENV)/tested ## the kernel's tests and fuzz targets under ASan and UBSan; SECONDS=120
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)/source
	cp -r pyproject.toml setup.py README.md LICENSE src $(SANITIZED)/source
	find $(SANITIZED)/source -name '*.so' -delete
	CFLAGS="$(SANITIZERS)" SCRIPTLING_WS_EXTENSION=yes \
	    $(PIP) install --quiet --no-deps --target $(SANITIZED)/lib ./$(SANITIZED)/source
	$(SANITIZED_RUN) -c "from scriptling_ws import _wsframe as k; assert '/$(SANITIZED)/' in k.__file__"
	$(SANITIZED_RUN) -m pytest --quiet -p no:cacheprovider tests/wire/test_kernel*.py \
	    tests/wire/test_channel*.py tests/wire/test_protocol.py tests/wire/test_fuzz_seeds.py $(PYTEST_ARGS) \
	    || { cat $(SANITIZED)/report.* 2>/dev/null; false; }
	$(SANITIZED_RUN) fuzz/run.py --random --seconds $(SECONDS) $(SANITIZED_TARGETS) \
	    || { cat $(SANITIZED)/report.* 2>/dev/null; false; }

# The package is measured in a copy, whose kernel calls back at each line; the other builds
# stay as they are. CYTHON_USE_SYS_MONITORING: what coverage hears is the older interface.
# A traced test takes several times as long: it may.
COVERAGE_VENV = .venv-coverage
COVERAGE_RUN = $(CURDIR)/$(COVERAGE_VENV)/bin/python
COVERED = out/coverage
TRACED = -O1 -DCYTHON_TRACE_NOGIL=1 -DCYTHON_USE_SYS_MONITORING=0

# Of an included file Cython counts the lines at the module's level as the first file's. So the
# kernel is one file here: what is included comes behind, in its order.
define IN_ONE_FILE
import pathlib, re
kernel = pathlib.Path("src/_wsframe.pyx")
included = lambda match: pathlib.Path("src", match[1]).read_text()
kernel.write_text(re.sub('(?m)^include "(.*)"$$', included, kernel.read_text()))
endef
export IN_ONE_FILE

$(COVERAGE_VENV)/made: pyproject.toml
	$(BENCH_PYTHON) -m venv $(COVERAGE_VENV)
	$(COVERAGE_RUN) -m pip install --quiet --upgrade "pip>=25.1"
	$(COVERAGE_RUN) -m pip install --quiet --group coverage
	SCRIPTLING_WS_EXTENSION=no $(COVERAGE_RUN) -m pip install --quiet --editable .
	@touch $@

coverage: $(COVERAGE_VENV)/made peers ## whether the tests reach every branch, and every line of the kernel
	rm -rf $(COVERED) && mkdir -p $(COVERED)
	cp -r pyproject.toml setup.py Makefile *.md LICENSE src tests fuzz examples bench docs deploy $(COVERED)
	rm -f $(COVERED)/src/scriptling_ws/*.so $(COVERED)/src/*.c
	cp tests/coverage/kernel_lines.py "$$($(COVERAGE_RUN) -c \
	    "import sysconfig; print(sysconfig.get_path('purelib'))")"
	cd $(COVERED) && $(COVERAGE_RUN) -c "$$IN_ONE_FILE"
	cd $(COVERED) && $(COVERAGE_RUN) -m cython -X linetrace=True src/_wsframe.pyx
	cd $(COVERED) && CFLAGS="$(TRACED)" SCRIPTLING_WS_EXTENSION=yes \
	    $(COVERAGE_RUN) setup.py --quiet build_ext --inplace
	cd $(COVERED) && for pure in 0 1; do \
	    COVERAGE_FILE=$(CURDIR)/$(COVERED)/.coverage PYTHONPATH=$(CURDIR)/$(COVERED)/src \
	    SCRIPTLING_WS_EXTENSION=yes SCRIPTLING_WS_PURE=$$pure \
	    $(COVERAGE_RUN) -m coverage run -m pytest --numprocesses $(WORKERS) --dist worksteal \
	        -o timeout=900 $(PYTEST_ARGS) || exit; \
	done
	cd $(COVERED) && $(COVERAGE_RUN) -m coverage combine --quiet
	rm -f $(COVERED)/.coverage.*  # of a child that a test has killed as it wrote
	cd $(COVERED) && $(COVERAGE_RUN) -m coverage report --include=src/_wsframe.pyx --fail-under=0
	cd $(COVERED) && $(COVERAGE_RUN) -m coverage report

# Of the modules that differ from MUTANTS_BASE, or of MODULES="_network.tls _wire.incoming".
MUTANTS_BASE ?= main
SEED ?= 0
COUNT ?= 40

mutants: $(VENV)/tested ## whether the tests notice COUNT=40 changes of what differs from MUTANTS_BASE=main; SEED=0
	$(RUN) tests/mutants.py --base $(MUTANTS_BASE) --seed $(SEED) --count $(COUNT) $(MUTANTS_ARGS) $(MODULES)

MINUTES ?= 20

# ENGINE=gevent: servers and peers alike are greenlets.
soak: $(VENV)/tested ## churn connections for MINUTES=20, after which nothing may be left; ENGINE=gevent, SOAK_ARGS=...
	$(RUN) $(if $(filter gevent,$(ENGINE)),-m gevent.monkey) soak/run.py --minutes $(MINUTES) $(SOAK_ARGS)

# Stubtest needs the compiled kernel, actionlint and hadolint their packages: see pyproject.toml.
lint: $(VENV)/linted ## ruff, types, cython-lint, workflows, imports, the wheels' table
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(RUN) -m mypy --platform darwin
	$(RUN) -m mypy --platform win32
	@if $(RUN) -c "import scriptling_ws._wsframe" 2>/dev/null; \
	    then MYPYPATH=src $(RUN) -m mypy.stubtest scriptling_ws._wsframe; \
	    else echo "skipped: stubtest, as there is no compiled kernel"; fi
	rm -rf out/typed && SCRIPTLING_WS_EXTENSION=no \
	    $(PIP) install --quiet --no-deps --target out/typed .
	PATH="$(abspath $(VENV))/bin:$$PATH" PYTHONPATH=out/typed \
	    pyright --verifytypes scriptling_ws --ignoreexternal | tail -n 4 | grep "score: 100%"
	PATH="$(abspath $(VENV))/bin:$$PATH" PYTHONPATH=out/typed pyright --project tests/typed
	$(RUN) -m mypy tests/typed
	PATH="$(VENV)/bin:$$PATH" cython-lint --max-line-length=100 src/_wsframe.pyx src/_wsframe/*.pxi
	$(VENV)/bin/zizmor --offline --quiet .github
	cd .github && for kind in github-workflows:workflows/*.yml dependabot:dependabot.yml \
	    github-issue-forms:ISSUE_TEMPLATE/[!c]*.yml github-issue-config:ISSUE_TEMPLATE/config.yml; do \
	    $(abspath $(VENV))/bin/check-jsonschema --quiet \
	        --builtin-schema vendor.$${kind%%:*} $${kind#*:} || exit; \
	done
	@if [ -x $(VENV)/bin/actionlint ]; then $(VENV)/bin/actionlint; \
	    else echo "skipped: actionlint, which did not install"; fi
	@if [ -x $(VENV)/bin/hadolint ]; then $(VENV)/bin/hadolint deploy/docker/Dockerfile; \
	    else echo "skipped: hadolint, which did not install"; fi
	$(RUN) -m pytest --quiet tests/test_imports.py tests/test_packaging.py

api: $(VENV)/tested ## write the public API to tests/api.txt
	$(RUN) tests/test_api.py

format: $(VENV)/linted ## format the Python code
	$(RUN) -m ruff check --fix-only
	$(RUN) -m ruff format

clean: ## remove what the other targets have made
	rm -rf $(VENV) $(BENCH_VENV) $(FUZZ_VENV) $(FREE_VENV) $(PYPY_VENV) $(WHEELS_VENV)
	rm -rf $(COVERAGE_VENV) .venv-autobahn .venv-newest
	rm -rf build dist out src/*.egg-info src/_wsframe.c src/scriptling_ws/*.so
	rm -rf $(NODE_MODULES) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
