#!/usr/bin/env bash
#SBATCH --job-name=comparison
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.out
# One stage: the comparison of what was evaluated, and all runs in MLflow. Submits its jobs, behind those that they build on and that are in the queue, and ends.
#   SWEEP=configs/sweeps/pfed.yaml sbatch slurm/comparison.sh    or:    SWEEP=... bash slurm/comparison.sh [--dry-run | --status | --cancel]
cd "${SLURM_SUBMIT_DIR:-.}" || exit
exec bash slurm/submit.sh "${SWEEP:-configs/sweeps/sues_all.yaml}" --only comparison "$@"
