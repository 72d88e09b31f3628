#!/usr/bin/env bash
# Everything that wants a GPU, in parts: kernels and gradients on the device, the times,
# compute-sanitizer. It installs nothing.
#
#     benchmarks/gpu_check.sh [--pack FOLDER] [PART ...]
#
# The parts, all of them if none is named, and the seconds that each may take:
#
#     kernels 100, step 100, gradcheck 250            every result against the host's
#     times 350, kernels_times 80                     against the CPU, PyTorch, a copy
#     memcheck 60, racecheck 60                       of the kernels' tests
#
# Each part leaves its log in benchmarks/results/ and the card's name, where README.md says
# what passed; what a part has measured when its time is up is kept, and a later call goes
# on in the same folder. With --pack, FOLDER/CARD.tar.gz holds that folder after each part,
# for a machine that gives back a few files only. Exit codes: 0 all passed, 1 a part
# failed, 2 no GPU, or wrong use. With NUMBA_ENABLE_CUDASIM=1 it is a rehearsal.
set -uo pipefail
pack=
if [ "${1:-}" = --pack ]; then
    pack=$(mkdir -p "$2" && cd "$2" && pwd) || exit 2
    shift 2
fi
cd "$(dirname "$0")/.." || exit 2
parts=("$@")
[ $# -gt 0 ] || parts=(kernels step gradcheck times kernels_times memcheck racecheck)
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
# where Numba finds its compiler, if it is in no package
if [ -z "${CUDA_HOME:-}" ]; then
    nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
    [ -x "$nvcc" ] && CUDA_HOME=$(dirname "$(dirname "$(readlink -f "$nvcc")")") && export CUDA_HOME
fi
card=$("$PYTHON" -c 'from machine import card, need_gpu; need_gpu(); print(card())') || exit 2
name=$(echo "$card" | tr ' /' '__')
out=benchmarks/results/$name
mkdir -p "$out"
touch "$out/parts.txt"
failed=0

result() { # part, result, seconds: into README.md, which is written anew, and the archive
    grep -v "^| $1 |" "$out/parts.txt" > "$out/parts.new"
    local log=
    [ ! -f "$out/$1.log" ] || log="[$1.log]($1.log)"
    echo "| $1 | $2 | $3 | $log |" | tee -a "$out/parts.new"
    mv "$out/parts.new" "$out/parts.txt"
    {
        echo "# $card"
        echo
        echo "Written by \`benchmarks/gpu_check.sh\`."
        echo
        echo "| part | result | seconds | log |"
        echo "|---|---|---|---|"
        cat "$out/parts.txt"
        for table in kernels training; do
            [ -f "$out/$table.md" ] && { echo; cat "$out/$table.md"; }
        done
    } > "$out/README.md"
    [ -z "$pack" ] || tar -czf "$pack/$name.tar.gz" -C benchmarks/results "$name"
}

part() { # seconds, command; its name is $part
    local limit=$1 start=$SECONDS
    shift
    [ "$card" != "the simulator" ] || limit=$((10 * limit))  # on a machine that may be busy
    if timeout "$limit" "$@" > "$out/$part.log" 2>&1; then
        result "$part" passed $((SECONDS - start))
    else
        local code=$?
        failed=1
        result "$part" "FAILED ($code$([ $code = 124 ] && echo ', out of time'))" $((SECONDS - start))
        tail -n 15 "$out/$part.log"
    fi
}

# a step that could not be recorded is no success
pytest=("$PYTHON" -m pytest -q --noconftest -p no:cacheprovider --durations 5
    -W default -W "error:the step is not replayed")
# without CuPy's pool, in which an array's end is another's beginning
unpooled='import cupy, pytest, sys; cupy.cuda.set_allocator(None); sys.exit(pytest.main(sys.argv[1:]))'

# every kernel, at one shape where a test has several
sanitized='cuda and (shape2 or not_finite or average or coefficients or noise or tanh)'

sanitizer() { # its options. CUDA's Python asks the driver for what may fail: no error
    if ! command -v compute-sanitizer > /dev/null; then
        result "$part" "not run: compute-sanitizer is not installed" ""
        return
    fi
    part 60 compute-sanitizer "$@" --target-processes all --error-exitcode 1 \
        "$PYTHON" -c "$unpooled" "${pytest[@]:3}" tests/test_kernels.py -k "$sanitized"
}

for part in "${parts[@]}"; do
    case $part in
        kernels) part 100 "${pytest[@]}" tests/test_kernels.py -k cuda ;;
        step) part 100 "${pytest[@]}" tests/on_gpu.py ;;
        gradcheck)
            if [ "$card" = "the simulator" ]; then
                result gradcheck "not run: it takes hours in the simulator" ""
            else
                part 250 "$PYTHON" -m minivae gradcheck --kernels cuda
            fi
            ;;
        times) part 350 "$PYTHON" benchmarks/training.py --device cuda --out "$out" ;;
        kernels_times) part 80 "$PYTHON" benchmarks/kernels.py --device cuda --out "$out" ;;
        memcheck) sanitizer --tool memcheck --report-api-errors no ;;
        racecheck) sanitizer --tool racecheck ;;
        *)
            echo "gpu_check.sh: no part $part: see the top of the file" >&2
            exit 2
            ;;
    esac
done
exit $failed
