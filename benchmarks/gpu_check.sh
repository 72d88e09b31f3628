#!/usr/bin/env bash
# Everything that wants a GPU: kernels and gradients on the device, the benchmarks,
# compute-sanitizer. It installs nothing, and takes at most ten minutes: each part has
# a limit, and what a part has measured by then is kept.
#
#     benchmarks/gpu_check.sh [FOLDER]
#
# FOLDER is benchmarks/results/ and the card's name, if left out. Each part leaves its log there,
# and README.md says what passed. With NUMBA_ENABLE_CUDASIM=1 it is a rehearsal in the simulator.
set -uo pipefail
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

# a step that could not be recorded is no success
test=(-q --noconftest -p no:cacheprovider -W default -W "error:the step is not replayed")
part kernels 70 "$PYTHON" -m pytest "${test[@]}" tests/test_kernels.py -k cuda
part step 80 "$PYTHON" -m pytest "${test[@]}" tests/on_gpu.py
part training_times 200 "$PYTHON" benchmarks/training.py --device cuda --out "$out"
part kernels_times 70 "$PYTHON" benchmarks/kernels.py --device cuda --out "$out"
if [ "$card" = "the simulator" ]; then
    echo "| gradcheck | not run: it takes hours in the simulator | | |" | tee -a "$summary"
else
    part gradcheck 60 "$PYTHON" -m minivae gradcheck --kernels cuda
fi
if command -v compute-sanitizer > /dev/null; then
    # without CuPy's pool, in which an array's end is another's beginning
    run='import cupy, pytest, sys; cupy.cuda.set_allocator(None); sys.exit(pytest.main(sys.argv[1:]))'
    for tool in memcheck racecheck; do
        part "$tool" 60 compute-sanitizer --tool "$tool" --target-processes all --error-exitcode 1 \
            "$PYTHON" -c "$run" "${test[@]}" tests/test_kernels.py -k "cuda and (shape2 or not_finite)"
    done
else
    echo "| memcheck, racecheck | not run: compute-sanitizer is not installed | | |" | tee -a "$summary"
fi
for table in kernels training; do
    [ -f "$out/$table.md" ] && { echo; cat "$out/$table.md"; } >> "$summary"
done
exit $failed
