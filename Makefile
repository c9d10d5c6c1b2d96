# The front door: each target is one line that calls Ansible, lab, Locust or pytest.
# By `python -m`: the path of an interpreter that pip writes into scripts may not be one that a kernel or a shell reads.

# What is empty is not set.
override PYTHON := $(or $(PYTHON),python3)
override PLACE := $(or $(PLACE),auto)
override MODEL := $(or $(MODEL),nginx)
override INPUTS := $(or $(INPUTS),1000000)
BIN := .venv/bin
# A part's extras of pyproject.toml, in .venv when its stamp is newer than what it depends on.
LAB := .venv/lab.stamp
TEST := .venv/test.stamp
BENCH := .venv/bench.stamp

.DEFAULT_GOAL := help
.PHONY: help setup lab-up lab-down lab-status load dashboards experiments report docs screenshots bench peers lint test test-vms fuzz soak licences release

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(LAB) $(TEST) $(BENCH)  ## make the virtual environment with everything in it

lab-up: $(LAB)  ## start models, live page, Prometheus and Locust; print where they are (PLACE=auto|containers|local|vms APP=shop:app)
	@$(BIN)/python -m lab up --place '$(PLACE)' $(if $(APP),--app '$(APP)') $(if $(APP_DIR),--app-dir '$(APP_DIR)')

lab-down:  ## stop all that lab-up started (PLACE=vms REMOVE=yes: and take it off the hosts)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m lab down --place '$(PLACE)' $(if $(REMOVE),--remove); else echo "Nothing to stop: there is no .venv."; fi

lab-status: $(LAB)  ## show what runs, how it is, and what it costs
	@$(BIN)/python -m lab status

load: $(LAB)  ## put load on one model (MODEL=nginx USERS=10 RATE=10 TIME=30s)
	@$(BIN)/python -m lab load '$(MODEL)' $(if $(USERS),--users '$(USERS)') $(if $(RATE),--rate '$(RATE)') $(if $(TIME),--seconds '$(TIME)')

experiments: $(LAB)  ## prove every claim of the textbook (ARGS=--quick)
	@$(BIN)/python -m lab run --all $(ARGS)

report: $(LAB)  ## make a page of each experiment's run, and an index of them
	@$(BIN)/python -m lab report

docs: $(LAB)  ## write docs/experiments anew (ARGS=NAME, ARGS=fidelity, or --all: first stores the last full runs and controls)
	@$(BIN)/python -m lab.report.docs $(ARGS)

dashboards: $(TEST)  ## build Grafana's dashboards (dashboards/json) from dashboards/*.py
	@$(BIN)/python -m dashboards.build

screenshots: $(TEST)  ## take README's pictures anew, from real runs (needs Debian's chromium)
	@PYTHONPATH=.:tests $(BIN)/python -m support.screenshots

bench: $(BENCH)  ## measure the models beside real servers (ARGS="--json")
	@$(BIN)/python -m lab bench $(ARGS)

peers: $(BENCH)  ## install the real systems that models are compared with (as root on Debian; starts no service)
	@provisioning/roles/prometheus/files/install-quietly.sh nginx-light memcached nodejs redis-server postgresql apache2-bin

lint: $(TEST)  ## run every linter and type checker
	@$(BIN)/python -m pre_commit run --all-files

# Two at a time, file by file, the long ones of tests/e2e first.
test: $(TEST)  ## run the tests (ARGS="-k nginx")
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-vms: $(TEST)  ## provision a virtual machine over SSH, as root on Debian (30 min)
	@$(BIN)/python -m pytest -m vms tests/e2e/test_vms.py $(ARGS)

fuzz: $(TEST)  ## feed the protocols a million broken inputs (INPUTS=1000000)
	@PYTHONPATH=.:tests $(BIN)/python -m support.fuzz $(INPUTS) $(SEED)

soak: $(TEST)  ## kill commands and workers, attack, load for an hour; store what is found (ARGS="kills --part 0.1")
	@PYTHONPATH=.:tests $(BIN)/python -m reliability $(ARGS)

licences: $(TEST)  ## write docs/licences.md anew, from the metadata of what is installed
	@PYTHONPATH=.:tests $(BIN)/python -m support.licences

release: $(TEST)  ## build the version's archives, try the wheel, write its notes: dist/
	@PYTHONPATH=.:tests $(BIN)/python -m support.release

$(LAB): pyproject.toml constraints.txt
	@provisioning/virtualenv.sh '$(PYTHON)' lab && touch $@

$(TEST): pyproject.toml constraints.txt
	@provisioning/virtualenv.sh '$(PYTHON)' lab test bench analysis && touch $@ $(LAB) $(BENCH)

$(BENCH): pyproject.toml constraints.txt
	@provisioning/virtualenv.sh '$(PYTHON)' lab bench && touch $@ $(LAB)
