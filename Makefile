# Every command does its own set-up: a virtual environment in .venv, and as root the Debian packages it needs.
PYTHON ?= python3
PREFIX ?= /usr
DESTDIR ?=
INTERPRETER ?= /usr/bin/env python3
LISTEN ?= 127.0.0.1:8080
# A Python given on the command line replaces the one of .venv; the default one does not.
ENVIRONMENT := ASKED=$(if $(filter file,$(origin PYTHON)),no,yes) sh .ci/environment .venv "$(PYTHON)"
LINT := --line-length 120
RULES := --select A,ARG,B,C4,DTZ,E,F,I,N,PIE,PLC,PLE,PLW,RET,RUF,S,SIM,UP,W --ignore E501,N818,PLC0415,RUF001,RUF002,RUF003,S105,S603
# The database's queries are built from its own constants; input is always a parameter (tests/mail/ipc/test_history.py).
RULES += --per-file-ignores 'device_ui/mail/*/*.py:S608'
# The tests of the whole product, as it is installed.
WHOLE := appliance browser firmware power security servers test_make.py
VERSIONS := $(shell sed -n 's/.*Language :: Python :: \([0-9.]*\)/\1/p' setup.cfg)
SCANNERS := sslyze bandit
# Limits of make audit: inputs of hypothesis and seconds of atheris for each reader, cases for each form, seconds of wapiti.
EXAMPLES ?= 400
FUZZ_SECONDS ?= 20
CASES ?= 100
SCAN_SECONDS ?= 150

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

.venv/product .venv/tests:
	@$(ENVIRONMENT) $(@F)

run: .venv/product ## start the product with its demo mail server, ready for a browser
	@.venv/bin/device-ui run --demo --data demo-data --listen "$(LISTEN)"

test: ## run all tests, with real mail servers and a real browser
	@sh .ci/needs tests
	@$(ENVIRONMENT) tests
	@.venv/bin/python -m compileall -q device_ui tests
	@.venv/bin/python -m pytest $(TESTS)

coverage: ## run the tests of the components under a tracer; print what they cover, 95 % at least
	@sh .ci/needs tests
	@$(ENVIRONMENT) tests
	@rm -f .coverage .coverage.*
	@trap : INT; .venv/bin/python -m coverage run -m pytest $(addprefix --ignore=tests/,$(WHOLE)) $(TESTS); result=$$?; \
		.venv/bin/python -m coverage combine --quiet; exit $$result
	@.venv/bin/python -m coverage report $(if $(TESTS),--fail-under 0)

boot: ## boot the Debian package in a virtual machine, use it, cut its power; takes 20 minutes
	@sh .ci/needs boot
	@$(ENVIRONMENT) tests
	@.venv/bin/python -m pytest --numprocesses 2 $(or $(TESTS),tests/boot)

versions: ## run the unit tests with each Python that setup.cfg names
	@for version in $(VERSIONS); do sh .ci/environment .venv/versions/$$version python$$version tests || exit 1; done
	@for version in $(VERSIONS); do echo "Python $$version"; \
		".venv/versions/$$version/bin/python" -m pytest $(addprefix --ignore=tests/,browser servers power bench test_make.py) $(TESTS) || exit 1; done

power: ## cut the power at every point and start on every disk that it can leave; takes an hour
	@sh .ci/needs tests
	@$(ENVIRONMENT) tests
	@.venv/bin/python -m tests.power
	@DEVICE_UI_POWER=all .venv/bin/python -m pytest --numprocesses 0 --capture no --timeout 0 tests/power

# The scanners have environments of their own: sslyze needs an older cryptography than the product, and wapiti different versions
# of shared packages.
.venv/audit: setup.cfg
	@$(ENVIRONMENT) audit
	@.venv/bin/python -m venv .venv/wapiti
	@.venv/wapiti/bin/pip install --quiet --disable-pip-version-check wapiti3
	@.venv/bin/python -m venv .venv/audit
	@.venv/audit/bin/pip install --quiet --disable-pip-version-check $(SCANNERS)
	@touch $@

audit: .venv/audit ## run fuzzers and scanners on loopback alone; takes 10 minutes
	@sh .ci/needs audit
	@AUDIT_EXAMPLES=$(EXAMPLES) AUDIT_FUZZ_SECONDS=$(FUZZ_SECONDS) AUDIT_CASES=$(CASES) AUDIT_SCAN_SECONDS=$(SCAN_SECONDS) \
		.venv/bin/python -m pytest --timeout 0 $(or $(TESTS),tests/audit)

bench: ## measure each figure beside its floor, and the writes to flash; takes some minutes
	@sh .ci/needs tests
	@$(ENVIRONMENT) tests
	@.venv/bin/python -m tests.bench

check: .venv/tests ## check format, lint and types
	@.venv/bin/python -m ruff format $(LINT) --check device_ui tests
	@.venv/bin/python -m ruff check $(LINT) $(RULES) device_ui
	@.venv/bin/python -m ruff check $(LINT) --select B,E,F,I,UP,W --ignore E501 tests
	@.venv/bin/python -m mypy

format: .venv/tests ## format the source
	@.venv/bin/python -m ruff format $(LINT) device_ui tests
	@.venv/bin/python -m ruff check $(LINT) --select I --fix device_ui tests

install: ## install under DESTDIR and PREFIX, without dependencies and pip, for packagers
	@install -d -m 755 "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/device-ui"
	@tar -c --exclude=__pycache__ --exclude=appliance --mode=u+rwX,go=rX device_ui static views | tar -x --no-same-owner -C "$(DESTDIR)$(PREFIX)/lib/device-ui"
	@$(PYTHON) -m compileall -q --invalidation-mode unchecked-hash -s "$(DESTDIR)" -p / "$(DESTDIR)$(PREFIX)/lib/device-ui"
	@printf '%s\n' '#!$(INTERPRETER)' 'import sys' 'sys.path[:0] = ["$(PREFIX)/lib/device-ui", "$(PREFIX)/lib/device-ui/bundled"]' \
		'from device_ui.cli.entry import main' 'sys.exit(main())' >"$(DESTDIR)$(PREFIX)/bin/device-ui"
	@chmod 755 "$(DESTDIR)$(PREFIX)/bin/device-ui"
	@cd "$(DESTDIR)$(PREFIX)" && install -d -m 755 lib/systemd/system lib/sysusers.d lib/tmpfiles.d share/device-ui
	@for unit in $(notdir $(wildcard device_ui/appliance/*.service device_ui/appliance/*.socket device_ui/appliance/*.timer)); do \
		sed 's|/usr/bin/device-ui|$(PREFIX)/bin/device-ui|' "device_ui/appliance/$$unit" >"$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit"; \
		chmod 644 "$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit"; done
	@install -m 644 device_ui/appliance/sysusers.conf "$(DESTDIR)$(PREFIX)/lib/sysusers.d/device-ui.conf"
	@install -m 644 device_ui/appliance/tmpfiles.conf "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/device-ui.conf"
	@install -d -m 755 "$(DESTDIR)$(PREFIX)/share/device-ui/forward"
	@cd device_ui/appliance/forward && install -m 755 mqtt syslog webhook "$(DESTDIR)$(PREFIX)/share/device-ui/forward"
	@cd device_ui/appliance/forward && install -m 644 mosquitto_pub rsyslog.conf curl.conf "$(DESTDIR)$(PREFIX)/share/device-ui/forward"
	@install -d -m 755 "$(DESTDIR)$(PREFIX)/share/device-ui/ansible"
	@tar -c --mode=u+rwX,go=rX -C device_ui/appliance/ansible device_ui | tar -x --no-same-owner -C "$(DESTDIR)$(PREFIX)/share/device-ui/ansible"
	@install -m 644 device_ui/appliance/nginx.conf device_ui/appliance/stunnel.conf "$(DESTDIR)$(PREFIX)/share/device-ui"

deb: .venv/product ## build two Debian packages in dist: with the three dependencies, and without
	@sh .ci/deb dist bundled
	@sh .ci/deb dist plain

clean: ## remove the files of the other commands, except the demo's data
	@rm -rf .venv build dist device_ui.egg-info .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache

.PHONY: .venv/product .venv/tests help run test coverage boot versions power audit bench check format install deb clean
