"""Goal Q3: real photographs on a real map by the demo's student, matched and not, no GPS given.

SKYDISTILL_REAL_PHOTOS names the photographs; an argument the run, `outputs/demo/runs/...` without.
"""

import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from line import report

from evaluation.cli import index, query

MUST_M, ALL_WITHIN_M = 2.0, 25
RUN = Path("outputs/demo/runs/student_distilled")


def main() -> int:
    """Index, query twice, and print one line."""
    run, photos = (
        Path(sys.argv[1]) if sys.argv[1:] else RUN,
        os.environ.get("SKYDISTILL_REAL_PHOTOS"),
    )
    if not photos or not run.exists():
        print(f"Q3 left out: no {run}, or no SKYDISTILL_REAL_PHOTOS", file=sys.stderr)
        return 0
    real = Path(photos, "own_map")
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "index")
        index([str(word) for word in (real / "map.tif", out, "--checkpoint", run)])

        def asked(*words: object) -> dict[str, Any]:
            with redirect_stdout(StringIO()) as told:
                query([str(word) for word in (out, *words, "--json")])
            return dict(json.loads(told.getvalue()))

        ours = (real / "photos", "--truth", real / "truth.csv")
        plain, matched = asked(*ours)["truth"], asked(*ours, "--refine")["truth"]
        elsewhere = sorted(Path(photos, "university1652/test/query_drone").rglob("*.JPG"))
        others = asked(*elsewhere, "--refine")["photos"]
    answers = matched["answers"]
    value = {
        "matched": {name: round(number, 3) for name, number in answers.items()},
        "not matched": {name: round(number, 3) for name, number in plain["tiles"].items()},
        "guessing": {name: round(number, 3) for name, number in plain["guessing"].items()},
        "photographs": matched["num_known"],
        "photographs of another place called on this map": sum(one["on_map"] for one in others),
        "of": len(others),
    }
    passed = answers["median_m"] <= MUST_M and answers[f"within_{ALL_WITHIN_M}m"] == 1.0
    must = f"matched: median <= {MUST_M} m, all within {ALL_WITHIN_M} m"
    return report("Q3", value=value, must=must, passed=passed, seed=0)


if __name__ == "__main__":
    sys.exit(main())
