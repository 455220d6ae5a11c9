"""Run a teacher once: ``accelerate launch distill/cache.py configs/pfed/demo.yaml``."""

import os
import sys

# Started as a file, Python puts distill/ first on the path; the packages are one level up.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from data_shards.verbs import run_verb
from distill.cli import cache

if __name__ == "__main__":
    sys.exit(run_verb(lambda: cache(sys.argv[1:])))
