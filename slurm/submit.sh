#!/usr/bin/env bash
# What the scripts beside it do from the root of the checkout: load the site's environment and submit a sweep.
#   bash slurm/submit.sh configs/sweeps/pfed.yaml [--only KIND] [--dry-run | --status | --cancel | --resume]
set -eo pipefail

if [[ -f slurm/site.env ]]; then
  # shellcheck source=/dev/null
  source slurm/site.env # it may load the environment that has skydistill
fi
set -u
exec skydistill sweep "$@" --slurm
