#!/usr/bin/env bash
#SBATCH --job-name=university1652
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.out
# University-1652: PFED and BiCrossNet; teachers, caches, students, evaluations, comparison.
# Submits the jobs and ends. From the root of the checkout, after slurm/site.env was made of slurm/site.env.example:
#   sbatch slurm/university1652.sh    or, where nodes may not submit:    bash slurm/university1652.sh [--dry-run | --status | --cancel | --resume]
cd "${SLURM_SUBMIT_DIR:-.}" || exit
exec bash slurm/submit.sh configs/sweeps/university1652.yaml "$@"
