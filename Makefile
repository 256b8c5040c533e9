# Everything a person does with this repository. Each target says what it does while it does it, and names what is missing.
.DEFAULT_GOAL := help
.PHONY: help setup build run dev test bench load faults fuzz shots dist docker-build docker-run images

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## what building needs: Rust, Node, a C compiler (installs from Debian's packages where it may)
	@scripts/setup

build: ## web app, server and agent, into bin/
	@scripts/build

run: ## build, then a whole installation at http://localhost:8080 with this machine in it
	@scripts/run

dev: ## as run, but rebuilds the web app whenever its source changes
	@scripts/dev

test: ## sets up what the tests need and runs all of them
	@scripts/test

bench: ## Rexec beside OpenSSH and others in one run, drawn into docs/
	@scripts/bench --docs

load: ## one broker at scale: 10,000 agents, live sessions beside them, a storm of 2,000
	@scripts/bench load

faults: ## breaks what can break, and prints what that cost: bytes lost, bytes doubled, time until typing works again
	@scripts/bench --faults

fuzz: ## gives every decoder a fuzzer's bytes; TIME=60 is the seconds for each
	@scripts/fuzz

shots: ## screenshots of every place, in three sizes and both themes, into e2e/shots/
	@scripts/shots

dist: ## what is shipped: small binaries, into bin/
	@scripts/build dist

docker-build: ## container images of control and broker: static binaries, nothing else
	@scripts/docker-build

docker-run: ## a whole installation in containers: packaging/compose.yaml
	@scripts/docker-run

images: ## sandbox images with developer tools, from the distributions' own
	@scripts/images
