# make run              install into .venv and run everything in one process, with the live-video app
# make unit             run the unit tests, which need nothing but Python
# make test             run all checks and all tests
# make format           format the code, and write etc/rtdeliver.toml and etc/rtdeliver.1 anew
# make coverage         run the unit tests, and show the lines and branches that they miss
# make matrix           run the unit tests on all Pythons that are here, and on two Twisteds
# make release-check    build a release, install it elsewhere, and run it
# make system-packages  install what the tests use besides Python: on Debian, as root

PYTHON ?= python3
# How many tests run at the same time. Those with real processes wait much of their time.
JOBS ?= $(shell nproc)
INTEGRATION_JOBS ?= $(shell expr $(JOBS) + 1)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n
UNIT := tests --ignore tests/integration --ignore tests/e2e
SOURCES := setup.cfg pyproject.toml $(shell find rtdeliver twisted -type f ! -name '*.pyc')

.NOTPARALLEL:
.PHONY: run test unit covered integration lint js types format coverage matrix release-check \
	python-venv system-packages clean

run: python-venv .venv/installed
	@echo "watch a topic:   curl -N 'http://localhost:8080/connect?topic=live:red'"
	@echo "publish to it:   curl -H 'Content-Type: application/json' -d '{\"topic\":\"live:red\",\"data\":\"hello\"}' http://localhost:8090/publish"
	@echo "see who watches: curl 'http://localhost:8090/topics?topic=live:red'"
	@exec $(BIN)/twistd -n rtcombined --app tcp:8000 $(ARGS)

test: system-packages lint types covered integration

unit: .venv/installed-test
	$(PYTEST) $(JOBS) $(UNIT)

# The unit tests, and the bound for what they cover.
covered: .venv/installed-test
	$(PYTEST) $(JOBS) $(UNIT) --cov --cov-report=
	$(BIN)/python -m tests.pure_coverage

# Tests with real processes. Those of one file share some, and run one after the other. The slowest
# files come first.
integration: .venv/installed-test
	$(PYTEST) $(INTEGRATION_JOBS) --dist loadfile --no-loadscope-reorder tests/e2e tests/integration

lint: .venv/installed-test js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What browsers run. The tools are those of package.json, and installed again when that changes.
js:
	@if ! command -v npm >/dev/null || \
		! node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null; then \
		echo "JavaScript not checked: Node 18 or later and npm are not installed"; \
	elif ! [ node_modules/.installed -nt package.json ] && \
		! { npm install --ignore-scripts --no-audit --no-fund --fetch-retries=1 --loglevel=error && \
			touch node_modules/.installed; }; then \
		echo "JavaScript not checked: npm cannot install the tools"; \
	else \
		npm run --silent check; \
	fi

types: .venv/installed-test
	$(BIN)/mypy

format: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m rtdeliver.config.example > etc/rtdeliver.toml
	COLUMNS=90 SOURCE_DATE_EPOCH=0 $(BIN)/argparse-manpage --module rtdeliver.command.main \
		--function new_parser --prog rtdeliver --project-name rtdeliver --manual-title rtdeliver \
		--description "helps to run and to try rtdeliver" --output etc/rtdeliver.1

coverage: covered
	$(BIN)/coverage report

matrix: .venv/installed-test
	$(BIN)/python -m tests.matrix $(PYTHONS)

release-check: .venv/installed-test
	$(BIN)/python -m tests.release

$(BIN)/pip:
	@$(PYTHON) -m venv --clear .venv >/dev/null 2>&1 || { \
		echo "cannot make a virtual environment: install python3-venv" >&2; exit 1; }

.venv/installed: $(SOURCES) | $(BIN)/pip
	@rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check .
	@touch $@

# Tests run on the sources, so only the dependencies matter.
.venv/installed-test: setup.cfg pyproject.toml | $(BIN)/pip
	@rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check '.[test]'
	@touch $@

# Debian's python3 may come without the means to make a virtual environment.
python-venv:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(call install, python3-venv); }

# A test that lacks one of these is skipped and says so.
system-packages: python-venv
	@PATH="$$PATH:/usr/sbin"; missing=; \
	for needed in caddy chromium curl haproxy ip:iproute2 nginx:nginx-light openssl \
		redis-server; do \
		command -v "$${needed%:*}" >/dev/null || missing="$$missing $${needed#*:}"; \
	done; \
	[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing="$$missing libnginx-mod-nchan"; \
	if [ -n "$$missing" ]; then $(call install,$$missing); fi

# Name packages, and install them if this is Debian and its root.
install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing by apt-get:$(1)"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(1); } >/dev/null || \
			echo "not installed:$(1)"; \
	else \
		echo "not installed, which only root can do, on Debian:$(1)"; \
	fi

clean:
	rm -rf .venv .matrix node_modules build dist *.egg-info
