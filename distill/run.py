"""Train one model: ``accelerate launch distill/run.py configs/pfed/demo.yaml``."""

import os
import sys

# Started as a file, Python puts distill/ first on the path; the packages are one level up.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from data_shards.verbs import run_verb
from distill.cli import train

if __name__ == "__main__":
    sys.exit(run_verb(lambda: train(sys.argv[1:])))
