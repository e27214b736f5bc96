#!/bin/sh
# VNN-COMP: says whether an instance can be run (exit 0), and reads its files once, so that the run finds them in memory.
#   prepare_instance.sh v1 CATEGORY ONNX VNNLIB
# No process of an earlier instance is left that would have to be ended: run_instance.sh waits for its own.
set -eu
case ${1:-}:$# in v1:4 | v2:4) ;; *)
    echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2
    exit 1
    ;;
esac
. "$(dirname -- "$0")/_tool.sh"
networks "$3"
readable "$4"
printf '%s\n' "${net:-$pairs}" | while read -r one; do
    file=${one#"${one%%=*}"=}
    [ -n "$net" ] && file=$net
    readable "$file"
    cat "$file" >/dev/null 2>&1 || cat "$file.gz" >/dev/null
done
"$verify" --version
