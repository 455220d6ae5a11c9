#!/usr/bin/env bash
#SBATCH --job-name=teachers
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.out
# One stage: the teachers of a sweep. Submits its jobs, behind those that they build on and that are in the queue, and ends.
#   SWEEP=configs/sweeps/pfed.yaml sbatch slurm/teachers.sh    or:    SWEEP=... bash slurm/teachers.sh [--dry-run | --status | --cancel]
cd "${SLURM_SUBMIT_DIR:-.}" || exit
exec bash slurm/submit.sh "${SWEEP:-configs/sweeps/sues_all.yaml}" --only teachers "$@"
