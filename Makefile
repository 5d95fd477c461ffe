# Everything sets itself up: `make demo` and `make test` need no step before them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help

# What runs is this clone's own, wherever `make` is called from.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

STAMP := .venv/.stamp
LINK := .cache/collections/ansible_collections/flaskops/server
PLAYBOOK := ansible-playbook --inventory inventories/demo

##@ Try it
demo: setup ## one container as a server, the shop on it, fetched over HTTPS
	@python tools/demo.py up $(ARGS)

deploy: demo-there ## deploy to the demo what changed in examples/shop (ARGS='-e ...')
	@$(PLAYBOOK) playbooks/deploy.yml $(ARGS)

rollback: demo-there ## return to the demo's previous good release, or to ID=...
	@$(PLAYBOOK) playbooks/rollback.yml $(if $(ID),-e release=$(ID)) $(ARGS)

status: demo-there ## what is live on the demo
	@$(PLAYBOOK) playbooks/status.yml $(ARGS)

demo-clean: setup ## remove all that `make demo` made
	@python tools/demo.py clean

##@ Develop
test: setup ## lint, unit and template tests, every Molecule scenario
	@python tools/run_tests.py lint unit molecule

lint: setup ## ruff, mypy, yamllint, ansible-lint, and what Ansible's community checks of a collection
	@python tools/run_tests.py lint

unit: setup ## unit and template tests (ARGS='-k ...')
	@pytest $(ARGS)

molecule: setup ## one scenario: ROLE=nginx, and STEP=converge to stop there (all where ROLE is not given)
	@python tools/run_tests.py molecule $(if $(ROLE),--scenario $(ROLE)) $(if $(STEP),--step $(STEP))

bench: setup ## what hosts receive; deploys against a plain playbook; the servers against each other (BENCH=payload, run or servers)
	@for one in $(or $(BENCH),payload run servers); do python bench/$$one.py $(ARGS); done

release: setup ## tarball, changelog and checksum of VERSION=x.y.z in dist/, and the demo from it
	@$(if $(VERSION),,echo 'Say which version: make release VERSION=1.0.0' >&2; exit 2)
	@python tools/release.py $(VERSION)

clean: ## remove all that this Makefile made: demo, test hosts, images, caches, .venv
	@if [ -x .venv/bin/python ]; then .venv/bin/python tools/demo.py clean; fi
	@if command -v docker >/dev/null; then python3 tools/testhosts.py remove; fi
	@rm -rf .ansible .cache .env.yml .mypy_cache .pytest_cache .ruff_cache .venv

##@ This
help: ## this list
	@awk -F ':.*## ' '/^##@ ./ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) | $(LINK) .env.yml

$(STAMP): requirements-dev.txt tools/bootstrap
	@tools/bootstrap
	@touch $@

# Molecule reads it: hosts of two clones have different names.
.env.yml:
	@python3 tools/testhosts.py clone

# Ansible finds a collection by its path: this one leads back here.
$(LINK):
	@mkdir -p $(@D)
	@ln -sfn ../../../.. $@

demo-host: setup
	@python tools/demo.py host

demo-there: setup
	@python tools/demo.py there

.PHONY: demo deploy rollback status demo-clean test lint unit molecule bench release clean help setup demo-host demo-there
