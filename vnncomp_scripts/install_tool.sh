#!/bin/sh
# VNN-COMP: installs surebound into .venv of this repository.
#   install_tool.sh v1
set -eu
case ${1:-} in v1 | v2) ;; *)
    echo "usage: install_tool.sh v1" >&2
    exit 1
    ;;
esac
. "$(dirname -- "$0")/../scripts/_venv.sh"
prepare run
.venv/bin/verify --version
