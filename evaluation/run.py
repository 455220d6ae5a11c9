"""Evaluate one model: ``accelerate launch evaluation/run.py --checkpoint RUN --shards S``."""

import os
import sys

# Started as a file, Python puts evaluation/ first on the path; the packages are one level up.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from evaluation.cli import run_evaluate

if __name__ == "__main__":
    sys.exit(run_evaluate())
