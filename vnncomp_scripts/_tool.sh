# shellcheck shell=sh
# Sourced by prepare_instance.sh and run_instance.sh.
#
# $verify: the installed command (SUREBOUND_VERIFY names another one).
# networks ONNX: sets "$net" to a file, or "" and "$pairs" to NAME=FILE lines where the competition names several
# networks in one argument, "[('f', 'a.onnx'), ('g', 'b.onnx')]" (properties in VNN-LIB 2.0).

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
verify=${SUREBOUND_VERIFY:-$here/.venv/bin/verify}

# one BLAS thread for the search; large convolutions take all cores (docs/reference/cli.md, Threads)
unset OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS

networks() {
    net=$1
    pairs=
    case $1 in
    \[*)
        net=
        pairs=$("$(dirname -- "$verify")/python" -c '
import ast, sys
for name, file in ast.literal_eval(sys.argv[1]):
    print(f"{name}={file}")
' "$1") || return 1
        ;;
    esac
}

# readable FILE: it, or FILE.gz, is there
readable() {
    [ -r "$1" ] || [ -r "$1.gz" ] || {
        echo "$1: cannot be read; is the benchmark complete?" >&2
        return 1
    }
}
