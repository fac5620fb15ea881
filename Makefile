PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# Molecule looks for Ansible on PATH.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Two balancers and three app servers, or with HOSTS=1 a single server.
lab := -i $(if $(filter 1,$(HOSTS)),lab/single,inventories/lab)
scenarios := default fleet https local
step = @printf '\n==> %s\n'

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[^\t]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: .venv
.venv: .venv/.complete ## Ansible and the tools, pinned, for this repository alone

.venv/.complete: requirements.txt
	$(step) 'Installing Ansible and the tools into .venv, about a minute'
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'Python 3.11 or newer is needed: make .venv PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || lab/apt.sh python3-venv
	@$(PYTHON) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.PHONY: demo
demo: .venv engine ## a fleet in containers, from nothing to a page that answers; HOSTS=1 a single server
	$(step) 'Starting the containers (an image takes half a minute once)'
	@ansible-playbook lab/up.yml $(lab)
	$(step) 'Provisioning them as any servers: ansible-playbook site.yml $(lab)'
	@ansible-playbook site.yml $(lab)
	$(step) 'Asking each server for a page'
	@ansible-playbook lab/show.yml $(lab)
	$(step) 'The demo answers at the address above'
	@printf '    next     change something in files/app, then: .venv/bin/ansible-playbook playbooks/deploy.yml %s\n' '$(lab)'
	@printf '    remove   make demo-down\n'

.PHONY: demo-down
demo-down: .venv ## remove the demo's containers, network and keys
	@ansible-playbook lab/remove.yml -i inventories/lab -i lab/single

.PHONY: engine
engine:
	$(step) 'Looking for a Docker engine'
	@lab/engine.sh

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || lab/apt.sh chromium

# Tools that need other versions of packages than .venv has, in an environment of their own.
.cache/%-tools/.complete: %/requirements.txt | .venv
	$(step) 'Installing the tools of $*'
	@rm -rf $(@D)
	@python -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: scanner
scanner: .cache/molecule/https-tools/.complete

.PHONY: lint
lint: .venv ## every linter
	$(step) 'Linting'
	@yamllint --strict .
	@ansible-lint
	@ruff check
	@ruff format --check
	@mypy
	@git grep --untracked -lE '^#!.*sh$$' -- ':!*.j2' ':!*.md' | xargs shellcheck
	@check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@check-jsonschema --builtin-schema vendor.gitlab-ci .gitlab-ci.yml
	@codespell
	@git ls-files -z | xargs -0 detect-secrets-hook --baseline .secrets.baseline

.PHONY: unit
unit: .venv chromium ## the plugins' tests, without hosts
	$(step) 'Testing the plugins'
	@pytest -q -n auto --cov --cov-report=term tests

.PHONY: contract
contract: .venv ## the playbooks' own tests, without hosts
	$(step) 'Testing the playbooks'
	@molecule test -s contract

.PHONY: molecule
molecule: .venv ## the scenarios on containers
	@for scenario in $(scenarios); do printf '\n==> Scenario %s\n' $$scenario; molecule test -s $$scenario; done

.PHONY: test
test: lint unit contract molecule demo demo-down ## everything above, the demo last

.PHONY: test-all
test-all: export FLASKFLEET_ALL := 1
test-all: scenarios := $(filter-out contract,$(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))
test-all: test ## and what takes longer: all scenarios, the slow tests, an image of ten minutes

.PHONY: bench-tools
bench-tools: .venv engine
	@python -c 'import matplotlib, pyinfra' 2>/dev/null || \
	    pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt

.PHONY: bench-deploy
bench-deploy: bench-tools ## what clients notice of a deploy and what it costs, on a container of its own
	$(step) 'Measuring, about a quarter of an hour'
	@bench/deploy.py $(BENCH)

.PHONY: bench-fleet
bench-fleet: bench-tools ## what clients notice of a fleet's deploys and rollbacks, through its shared address
	$(step) 'Measuring, about a quarter of an hour'
	@bench/fleet.py $(BENCH)

.PHONY: bench-scale
bench-scale: bench-tools ## what runs cost on 1, 3 and 10 servers, beside pyinfra
	$(step) 'Measuring, about twenty minutes'
	@bench/scale.py $(BENCH)

.PHONY: bench-provision
bench-provision: .venv engine ## how long a fresh server takes to its first answer, beside a shell script
	$(step) 'Measuring, about ten minutes'
	@bench/provision.py $(BENCH)

.PHONY: bench-tls
bench-tls: .venv engine ## what https costs nginx, beside one that is set up by hand
	$(step) 'Measuring, about ten minutes'
	@bench/tls.py $(BENCH)

.PHONY: bundle
bundle: .venv engine ## wheels and sources for servers without the internet, in .cache/bundle.tar: make bundle INVENTORY=…
	$(if $(INVENTORY),,$(error say for which hosts: make bundle INVENTORY=inventories/prod))
	$(step) 'Building what the apps of $(INVENTORY) need, in a container per platform'
	@trap 'ansible-playbook lab/remove.yml -i lab/builders' EXIT; \
	    ansible-playbook lab/up.yml -i lab/builders; \
	    ansible-playbook playbooks/bundle.yml -i $(INVENTORY) -i lab/builders
	$(step) 'It is .cache/bundle.tar: unpack it in the clone on the controller that has no access'

.PHONY: readmes
readmes: .venv ## write the tables in the roles' READMEs and in docs/state-on-hosts.md
	@tools/role_readmes.py

# What a page loads by itself, unlike a link.
foreign := (src|srcset)="(https?:)?//[^"]*|<link[^>]*href="(https?:)?//[^"]*|@import.*|url\(.?(https?:)?//[^)]*

.PHONY: docs
docs: .cache/docs-tools/.complete ## the documentation as a site in .cache/docs; a broken link is an error
	@rm -rf .cache/docs
	@.cache/docs-tools/bin/sphinx-build -q -b html -W --keep-going -n -c docs . .cache/docs
	@! grep -rnoE --include='*.html' --include='*.css' '$(foreign)' .cache/docs || \
	    { echo 'A page would load this from another host.' >&2; exit 1; }
	@echo 'The site begins with .cache/docs/index.html'

.PHONY: lock
lock: .venv ## update every list of pinned packages from its .in file; then make .venv test-all
	@for list in requirements=3.11 docs/requirements=3.11 bench/requirements=3.11 molecule/https/requirements=3.11 \
	        plugins/plugin_utils/exporters=3.11 files/app/requirements=3.9; do \
	    printf '==> Updating %s.txt\n' $${list%=*}; \
	    uv pip compile --quiet --universal --upgrade --no-header --no-annotate --python-version $${list#*=} \
	        --generate-hashes $${list%=*}.in -o $${list%=*}.txt; done

.PHONY: release
release: ## the tarball of a version, from its tag, which it makes: make release VERSION=1.2.0
	$(if $(VERSION),,$(error name the version: make release VERSION=1.2.0))
	@grep -q '^## $(VERSION) ' CHANGELOG.md || \
	    { echo 'CHANGELOG.md has no section "## $(VERSION) - <date>": write it, and commit' >&2; exit 1; }
	@test -z "$$(git status --porcelain)" || { echo 'There are changes that are not committed: commit first' >&2; exit 1; }
	@git rev-parse --quiet --verify 'v$(VERSION)^{commit}' >/dev/null || \
	    git tag --annotate --message='flaskfleet $(VERSION)' v$(VERSION)
	@test "$$(git rev-parse 'v$(VERSION)^{commit}')" = "$$(git rev-parse HEAD)" || \
	    { echo 'The tag v$(VERSION) is of another commit: check it out, or choose a new version' >&2; exit 1; }
	@mkdir -p .cache
	@git archive --prefix=flaskfleet-$(VERSION)/ --output=.cache/flaskfleet-$(VERSION).tar.gz v$(VERSION)
	@cd .cache && sha256sum flaskfleet-$(VERSION).tar.gz

.PHONY: clean
clean: ## remove .venv, the lab's images and .cache, but neither its release.key nor its wheelhouse
	@docker images -q --filter label=flaskfleet.recipe | xargs -r docker rmi --force || true
	rm -rf .venv
	@# Without the key each app gets a new release; without the wheelhouse new hosts may get other versions.
	[ ! -d .cache ] || find .cache -mindepth 1 -maxdepth 1 ! -name release.key ! -name wheelhouse -exec rm -rf {} +
