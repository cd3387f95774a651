# Each target does all its own set-up; a second run of it is quick.
#
#   make run     proxyd in the foreground, with a PostgreSQL of its own and lines to paste
#   make ssm-demo  upstreams by AWS Session Manager, without an AWS account
#   make test    the whole suite
#   make check   linters and types
#   make soak    the long runs
#   make bench   the benchmarks, each beside its peer
#   make clean   away with all that was made here, the demo's data too

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
TYPED := proxyd demo $(wildcard bench) twisted/plugins/proxyd_plugin.py
# Peer programs (psql, pgbench, pgbouncer) that the machine lacks are unpacked here.
export PATH := $(CURDIR)/.peers/bin:$(PATH)

.PHONY: run ssm-demo test check soak bench clean

run: $(READY)
	@exec $(PYTHON) -m demo

ssm-demo: $(READY)
	@exec $(PYTHON) -m demo.ssm

test: $(READY) .peers/.ready
	$(VENV)/bin/trial tests

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy $(TYPED)

soak: $(READY) .peers/.ready
	PROXYD_SOAK=1 $(VENV)/bin/trial tests

bench: $(READY) .peers/.ready
	$(PYTHON) -m bench

$(READY): setup.cfg pyproject.toml tests/support/venv.sh
	@tests/support/venv.sh $(VENV)
	@touch $@

# Tried once: what can't be had is named then, and its tests skip. `make clean` tries again.
.peers/.ready: tests/support/peers.sh
	@tests/support/peers.sh .peers $(PYTHON)
	@touch $@

clean:
	@tests/support/clean.sh
