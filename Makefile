# make run   install into .venv and run everything in one process, with the live-video app
# make test  install the test tools too, and run all checks and tests

PYTHON ?= python3
BIN := .venv/bin
SOURCES := setup.cfg pyproject.toml $(shell find rtdeliver twisted -type f ! -name '*.pyc')

.PHONY: run test lint js types tests system-packages clean

run: .venv/installed
	@echo "watch a topic:   curl -N 'http://localhost:8080/connect?topic=live:red'"
	@echo "publish to it:   curl -H 'Content-Type: application/json' -d '{\"topic\":\"live:red\",\"data\":\"hello\"}' http://localhost:8090/publish"
	@echo "see who watches: curl 'http://localhost:8090/topics?topic=live:red'"
	@exec $(BIN)/twistd -n --pidfile= rtcombined --app tcp:8000 $(ARGS)

test: lint types tests

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

tests: .venv/installed-test system-packages
	$(BIN)/python -m pytest tests

# Debian's python3 may come without the means to make a virtual environment.
$(BIN)/pip:
	@$(PYTHON) -m venv --clear .venv >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && \
			$(PYTHON) -m venv --clear .venv; \
		else \
			echo "cannot make a virtual environment: install python3-venv" >&2; exit 1; \
		fi; }

.venv/installed: $(SOURCES) | $(BIN)/pip
	@rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check .
	@touch $@

.venv/installed-test: .venv/installed
	@rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check '.[test]'
	@touch $@

# What the tests use besides Python; a test that lacks one of these is skipped and says so.
system-packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=; \
		command -v chromium >/dev/null || missing="$$missing chromium"; \
		command -v curl >/dev/null || missing="$$missing curl"; \
		command -v nginx >/dev/null || missing="$$missing nginx-light"; \
		[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing="$$missing libnginx-mod-nchan"; \
		command -v redis-server >/dev/null || missing="$$missing redis-server"; \
		if [ -n "$$missing" ]; then \
			echo "installing$$missing"; \
			{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null || \
				echo "not installed:$$missing"; \
		fi; \
	fi

clean:
	rm -rf .venv build dist *.egg-info
