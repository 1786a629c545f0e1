#!/bin/sh
# Add to a virtual environment what gpuio's benchmarks compare with, beyond the extra dali.
#
#   docker/install-peers.sh FOLDER
set -eu
folder=${1:?say in which folder}
"$folder/bin/pip" install torch==2.13.0 torchvision==0.28.0
