#!/bin/sh
# VNN-COMP: decides one instance and writes the results file: sat, unsat, unknown, timeout or error on the first line,
# the counterexample after sat.
#   run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT
# CATEGORY is not looked at: one strategy for all, chosen by the instance itself. VNN-LIB 1.0 and 2.0 are both read.
set -eu
case ${1:-}:$# in v1:6 | v2:6) ;; *)
    echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS_FILE TIMEOUT" >&2
    exit 1
    ;;
esac
. "$(dirname -- "$0")/_tool.sh"
results=$5
# the organisers' clock also sees the start of the program and the writing of the answer, and gives no grace
seconds=$(awk -v t="$6" 'BEGIN { t += 0; print (t > 20 ? t - 1 : 0.95 * t) }')
# whoever ends us from outside finds this; the answer replaces it as a whole
echo timeout >"$results"
networks "$3"

answer=$results.part
trap 'rm -f "$answer"' EXIT
if [ -n "$net" ]; then
    set -- "$net" "$4"
else
    query=$4
    set -- verify "$query"
    while read -r pair; do
        set -- "$@" --network "$pair"
    done <<END
$pairs
END
fi
# TERM ends the search and still has the best answer printed; KILL is for what does not listen
code=0
timeout -k 2 "$(awk -v t="$seconds" 'BEGIN { print t + 0.5 }')" \
    "$verify" "$@" --timeout "$seconds" >"$answer" || code=$?
case $code:$(head -n 1 "$answer") in
0:timed-out) echo timeout >"$answer" ;;
0:sat | 0:unsat | 0:unknown) ;;
124:* | 137:* | 143:*) echo timeout >"$answer" ;;
*) echo error >"$answer" ;;
esac
mv -f "$answer" "$results"
head -n 1 "$results"
