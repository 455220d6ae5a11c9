#!/usr/bin/env bash
# The goals that need a GPU, in at most 8 minutes: one line of JSON per goal.
#
#     benchmarks/gpu.sh [--toy] [PART...]
#
# With names of parts, as in `benchmarks/gpu.sh D8 "T4 and C7"`, only those run, and each may take
# all of that time.
# --toy shrinks everything and runs on a CPU too: it shows that the script is right, and its numbers
# mean nothing. Nothing is fetched from a network. Variables:
#     PYTHON              the interpreter, with torch, torchvision, timm, accelerate and numpy
#     GPU_WHEELS          folder of wheels for what it lacks (jsonargparse, simplejpeg, webdataset, and
#                         what they need), installed aside into a temporary folder
#     SKYDISTILL_SHARDS   shards for D8; photographs are made where it is not set
#     OUT                 folder that the lines are copied into, as gpu.jsonl
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

total=480
python=${PYTHON:-python3}
toy=()
if [[ ${1:-} == --toy ]]; then
    shift
    toy=(--toy)
    total=3600 # shared CPUs may be slow; nothing is measured
fi
asked=("$@")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
lines=$scratch/gpu.jsonl
failed=0

if [[ -n ${GPU_WHEELS:-} ]]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" \
        "$GPU_WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$PWD:$scratch/site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=$scratch/compiled

# part NAME SECONDS SCRIPT [OPTION...]: run one script within its time and what is left of all.
part() {
    local name=$1 limit=$2 script=benchmarks/$3 left=$((total - SECONDS)) begun=$SECONDS status=0
    shift 3
    if ((${#asked[@]})) && [[ ! " ${asked[*]} " == *" $name "* ]]; then return; fi
    if ((left < limit || ${#toy[@]} || ${#asked[@]})); then limit=$left; fi
    if [[ ! -f $script ]]; then
        printf '{"id": "%s", "error": "%s is not there"}\n' "$name" "$script"
    elif ((limit < 5)); then
        printf '{"id": "%s", "error": "no time was left"}\n' "$name"
    else
        timeout --kill-after=5 "$limit" "$python" "$script" "${toy[@]}" "$@" >"$scratch/part" ||
            status=$?
        cat "$scratch/part"
        # A script ends with 1 where a goal is missed, and then has said so.
        if ((status > 1)) || ! grep -q '"id"' "$scratch/part"; then
            printf '{"id": "%s", "error": "ended with status %d after %d of %d s"}\n' \
                "$name" "$status" $((SECONDS - begun)) "$limit"
        fi
    fi | tee -a "$lines"
    printf '%s took %d s\n' "$name" $((SECONDS - begun)) >&2
}

# T6 begins, for it compiles into an empty folder, and the others find there what it compiled. The
# limits leave 10 s to the last part, which has what the others do not take.
part T6 115 t6_compile.py --kept "$TORCHINDUCTOR_CACHE_DIR"
part "T4 and C7" 165 c1_training.py
part T5 25 l2_loss_memory.py --gpu
part E6 30 e6_gpu.py
part D10 30 d10_augment.py
part D8 65 d8_step.py
part E7 40 e7_large_gpu.py
part "C1 of BiCrossNet" 150 c1_training.py --bicrossnet

if [[ ! -s $lines ]]; then
    echo "no part is called ${asked[*]}; see the list in $0" >&2
    exit 2
fi
if [[ -n ${OUT:-} ]]; then cp "$lines" "$OUT/gpu.jsonl"; fi
if grep -q '"error"' "$lines"; then failed=1; fi
exit "$failed"
