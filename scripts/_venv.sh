# shellcheck shell=sh
# Sourced by the scripts in this folder, which then run in the repository root.
#
#   prepare run     .venv with surebound itself (numpy, onnx, onnxruntime)
#   prepare dev     the same with PyTorch and the tools of the dependency groups
#
# Quick when nothing changed: a stamp file holds the checksum of pyproject.toml. Needs only python3 >= 3.11.
# SUREBOUND_TORCH_INDEX names a package index for PyTorch alone, e.g. https://download.pytorch.org/whl/cpu
# for the CPU build on Linux; without it pip's own configuration decides.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1

_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "surebound needs Python 3.11 or newer, and none was found on PATH; install it and run this again" >&2
    return 1
}

_pip() {
    .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"
}

# the official VNN-LIB 2.0 parser has no wheel for some platforms; everything else works without it
_install() {
    _pip install --only-binary vnnlib --editable '.[vnnlib2]' "$@" || {
        echo "no wheel of 'vnnlib' for this platform? Installing without VNN-LIB 2.0" >&2
        _pip install --editable . "$@"
    }
}

# an editable installation is compiled at every start where PYTHONDONTWRITEBYTECODE is set: half of its time
_compile() {
    .venv/bin/python -m compileall -q bounds verifier sdp training service workers >/dev/null 2>&1 || true
}

prepare() {
    key="$root $(cksum <pyproject.toml)"
    for stamp in ".venv/.surebound-$1" .venv/.surebound-dev; do
        if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
            _compile
            return 0
        fi
    done
    python=$(_python) || exit 1
    echo "preparing .venv ($1) with $("$python" --version); the first time takes some minutes" >&2
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv || exit 1
    _pip install 'pip>=25.1' || exit 1
    if [ "$1" = dev ]; then
        _pip install ${SUREBOUND_TORCH_INDEX:+--index-url "$SUREBOUND_TORCH_INDEX"} 'torch==2.13.0' || exit 1
        _install --group dev --group train --group service --group browser || exit 1
        _pip install --editable '.[sdp]' || echo "no SDP solvers for this platform? Their tests will be skipped" >&2
        _pip install --group package || exit 1
        _pip install --group docs || echo "no builder of the site for this platform? Its tests will be skipped" >&2
        _pip install --group workers --group s3 || echo "no database servers for this platform? Their tests will be skipped" >&2
    else
        _install || exit 1
    fi
    _compile
    echo "$key" >".venv/.surebound-$1"
}
