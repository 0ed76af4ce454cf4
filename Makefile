# Two commands: `make demo` runs the whole story, `make test` passes the tests.
# Each does all its own set-up, in .venv; only Python 3.13, make and git need be there.

.DEFAULT_GOAL := help
.PHONY: help setup demo test check conformance bench bench-quick chaos soak deploy undeploy clean

VENV := .venv
PY := $(VENV)/bin/python
NODE = $(PY) -c "from sandbox.azurite import node; print(node())"

help: ## what there is to do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## install everything into .venv (quick the second time)

$(VENV)/bin/python:
	@found=; \
	for p in python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13*/bin/python3.13 python3; do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then found=$$p; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.13 is needed, on PATH or under pyenv; none was found." >&2; exit 1; \
	fi; \
	"$$found" -m venv $(VENV)

$(VENV)/.python: $(VENV)/bin/python requirements.txt requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(VENV)/.ready: $(VENV)/.python sandbox/azurite/package-lock.json
	@rm -rf $(VENV)/azurite && mkdir -p $(VENV)/azurite
	@cp sandbox/azurite/package.json sandbox/azurite/package-lock.json sandbox/azurite/.npmrc $(VENV)/azurite/
	@node=$$($(NODE)) && cd $(VENV)/azurite && PATH="$$(dirname $$node):/usr/bin:/bin" \
	  "$$node" "$$(dirname $$node)/../lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --silent
	@touch $@

demo: setup ## play the story: alert, block, proof, lift
	$(PY) -m sandbox.demo

PURE := alerts plan policy prefixes spans firewall investigation rehearsal topology waf managed likelihood view nsg owned proof guardrails drift effective explain log
test: setup ## run all tests; the pure modules must be covered branch by branch
	$(PY) -m pytest tests/unit -n 2 $(PURE:%=--cov=remediation.%) --cov-branch --cov-fail-under=100 --cov-report=term:skip-covered
	$(PY) -m pytest tests/conformance tests/sandbox tests/host -n 6 --dist worksteal

$(VENV)/checkov/bin/checkov: $(VENV)/bin/python requirements-checkov.txt
	@$(PY) -m venv $(VENV)/checkov
	@$(VENV)/checkov/bin/pip install --quiet --disable-pip-version-check -r requirements-checkov.txt
	@touch $@

check: setup $(VENV)/checkov/bin/checkov ## lint, types, import contracts, Bicep, checkov
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	@if [ -f ../shared/tools/bicepcheck/bicepcheck.py ]; then \
	  $(PY) ../shared/tools/bicepcheck/bicepcheck.py --strict infra/*.bicep infra/modules/*.bicep; \
	else echo "bicepcheck is not here: Bicep is not checked"; fi
	$(PY) -m tests.lint_infra $(VENV)/checkov/bin/checkov
	@if command -v bicep > /dev/null 2>&1; then \
	  for f in infra/*.bicep; do bicep build "$$f" --stdout > /dev/null && bicep lint "$$f" || exit 1; done; \
	else echo "the Bicep compiler is not on PATH: not compiled"; fi
	@for f in infra/*.sh; do sh -n "$$f" || exit 1; done

bench: setup ## measure side by side with what people use today (an hour)
	$(PY) -m bench

bench-quick: setup ## the same, small: asserts counts, never times (two minutes)
	$(PY) -m bench --quick

chaos: setup ## inject every fault at every call of a block's life, and play the scenes (long)
	$(PY) -m chaos

soak: setup ## alerts at a steady rate for half an hour, while blocks end all the time
	$(PY) -m chaos.soak

conformance: setup ## compare the sandbox with recorded Azure traffic, in detail
	$(PY) -m tests.conformance

deploy: ## infrastructure, code and event subscriptions into the subscription that az is signed in to
	./infra/deploy.sh

undeploy: setup ## lift live blocks, then take the service away; the ledger and the evidence stay
	./infra/undeploy.sh

clean: ## remove what was installed and built
	rm -rf $(VENV) build
