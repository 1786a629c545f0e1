#!/bin/sh
# Make a virtual environment with gpuio in it.
#
#   docker/install-gpuio.sh FOLDER EXTRAS [SOURCE]
#
# EXTRAS are those of pyproject.toml, such as cpu, cuda13 or cuda13,dali; SOURCE is a checkout or a
# wheel, by default the checkout of this script. PYTHON names an interpreter other than python3.
set -eu
folder=${1:?say in which folder} extras=${2:?say which extras, such as cpu}
source=${3:-$(cd "$(dirname "$0")/.." && pwd)}
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/pip" install "${source}[${extras}]"
"$folder/bin/python" -c "import gpuio; print('gpuio', gpuio.__version__)"
