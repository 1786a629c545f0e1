#!/bin/sh
# Install what `make check test` needs besides Python, on Debian and Ubuntu, as root.
set -eu
apt-get update
apt-get install --yes --no-install-recommends git make
