#!/usr/bin/env bash
# Sets up .venv beside this repository with exactly the packages of constraints.txt. Does nothing when that is done
# already; picks up where it was when it was cut off. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

supported='import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))'
venv=.venv
stamp=$venv/.installed

# What the environment must match: a change of any of these installs again.
wanted=$(cat constraints.txt pyproject.toml scripts/setup.sh | git hash-object --stdin)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c "$supported" 2>/dev/null; then
    touch "$stamp"
    exit 0
fi

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3 python; do
        if "$candidate" -c "$supported" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
        if [ "$candidate" = "${PYTHON:-}" ]; then
            fail "PYTHON=$PYTHON is not a working Python 3.11 or 3.12"
        fi
    done
    fail "Python 3.11 or 3.12 is needed and was not found; install one, or name it: make setup PYTHON=/path/to/python3.12"
}

if ! "$venv/bin/python" -c "$supported" 2>/dev/null; then
    python=$(find_python)
    say "making $venv with $("$python" --version)"
    if ! "$python" -m venv --clear "$venv"; then
        rm -rf "$venv"
        fail "$python cannot make virtual environments; on Debian and Ubuntu install the package python3-venv"
    fi
fi

say "installing the packages of constraints.txt: about 8 GB on disk, takes minutes, happens once"
rm -f "$stamp"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install -qq --constraint constraints.txt --editable '.[train,ssl,selection,export,tracking,data,aws,drift,test]'

# ultralytics asks for opencv-python, whose cv2 needs libGL, which servers and containers lack. The headless build of
# the same version brings the same module without that need; installed last, its files are the ones that stay.
headless=$(grep '^opencv-python-headless==' constraints.txt)
"${pip[@]}" install -qq --force-reinstall --no-deps "$headless"
"${pip[@]}" check >/dev/null || { "${pip[@]}" check >&2; fail "the installed packages do not fit together"; }
YOLO_CONFIG_DIR=$venv "$venv/bin/python" -c 'import cv2, torch, torchvision, ultralytics, onnxruntime' >/dev/null \
    || fail "the packages are installed but do not load; the lines above say which"

printf '%s\n' "$wanted" >"$stamp"
say "done"
