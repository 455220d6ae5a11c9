#!/usr/bin/env bash
#SBATCH --job-name=evaluations
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.out
# One stage: the evaluations of a sweep. Submits its jobs, behind those that they build on and that are in the queue, and ends.
#   SWEEP=configs/sweeps/pfed.yaml sbatch slurm/evaluations.sh    or:    SWEEP=... bash slurm/evaluations.sh [--dry-run | --status | --cancel]
cd "${SLURM_SUBMIT_DIR:-.}" || exit
exec bash slurm/submit.sh "${SWEEP:-configs/sweeps/sues_all.yaml}" --only evaluations "$@"
