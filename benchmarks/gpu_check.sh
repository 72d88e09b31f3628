#!/usr/bin/env bash
# Everything that wants a GPU, in at most ten minutes: kernels and gradients on the device,
# compute-sanitizer, the benchmarks. It installs nothing.
#
#     benchmarks/gpu_check.sh [FOLDER]
#
# FOLDER is benchmarks/results/ and the card's name, if left out. Each part leaves its log there,
# and README.md says what passed. With NUMBA_ENABLE_CUDASIM=1 it is a rehearsal in the simulator.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
if [ "${NUMBA_ENABLE_CUDASIM:-0}" = 1 ]; then
    card="the simulator"
else
    card=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1) || exit 2
fi
out=${1:-benchmarks/results/$(echo "$card" | tr ' /' '__')}
mkdir -p "$out"
summary="$out/README.md"
{
    echo "# $card"
    echo
    echo "Written by \`benchmarks/gpu_check.sh\`."
    echo
    echo "| part | result | seconds | log |"
    echo "|---|---|---|---|"
} > "$summary"
failed=0

part() { # name, limit in seconds, command
    local name=$1 limit=$2 start=$SECONDS result
    shift 2
    if timeout "$limit" "$@" > "$out/$name.log" 2>&1; then
        result=passed
    else
        result="FAILED ($?)"
        failed=1
    fi
    echo "| $name | $result | $((SECONDS - start)) | [$name.log]($name.log) |" | tee -a "$summary"
}

test=("$PYTHON" -m pytest -q --noconftest -p no:cacheprovider -W default)
part kernels 60 "${test[@]}" tests/test_kernels.py -k cuda
part step 60 "${test[@]}" tests/on_gpu.py
if [ "$card" = "the simulator" ]; then
    echo "| gradcheck | not run: it takes hours in the simulator | | |" | tee -a "$summary"
else
    part gradcheck 80 "$PYTHON" -m minivae gradcheck --kernels cuda
fi
if command -v compute-sanitizer > /dev/null; then
    for tool in memcheck racecheck; do
        part "$tool" 75 compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "${test[@]}" tests/test_kernels.py -k "cuda and (shape2 or not_finite)"
    done
else
    echo "| memcheck, racecheck | not run: compute-sanitizer is not installed | | |" | tee -a "$summary"
fi
part kernels_times 60 "$PYTHON" benchmarks/kernels.py --device cuda --out "$out"
part training_times 190 "$PYTHON" benchmarks/training.py --device cuda --out "$out"
for table in kernels training; do
    [ -f "$out/$table.md" ] && { echo; cat "$out/$table.md"; } >> "$summary"
done
exit $failed
