#!/usr/bin/env bash
# Set up a development environment: tools/setup.sh VENV
# Installs by apt what is missing where it may, else says in one line what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1

say() { echo "setup: $*"; }

find_python() {
    for candidate in "${ZOBNN_PYTHON:-python3}" python3.11 python3.10 python3.12; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    say "Python 3.10, 3.11 or 3.12 is needed; install one and name it in ZOBNN_PYTHON" >&2
    return 2
}

missing_packages() {
    command -v g++ >/dev/null || echo build-essential
    command -v arm-none-eabi-gcc >/dev/null || echo gcc-arm-none-eabi libnewlib-arm-none-eabi
    command -v qemu-system-arm >/dev/null || echo qemu-system-arm
    command -v cppcheck >/dev/null || echo cppcheck
    compgen -c | grep -qE '^clang(-1[4-8])?$' || echo clang
    "$python" -c 'import ensurepip' 2>/dev/null || echo python3-venv
    "$python" -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        echo python3-dev
}

install_packages() {
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        say "installing by apt: $*"
        "${as_root[@]}" apt-get update -qq
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
        # Its libFuzzer is a package of its own in some distributions; without it fuzz targets are skipped.
        [[ " $* " != *" clang "* ]] ||
            DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq libclang-rt-dev >/dev/null 2>&1 || true
    else
        say "please install first: sudo apt-get install $*" >&2
        return 2
    fi
}

python=$(find_python)
mapfile -t packages < <(missing_packages | tr ' ' '\n')
[ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"

if [ ! -x "$venv/bin/python" ]; then
    say "creating $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
say "installing Python packages and building the engine (some minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[larq,dev]'
# Keras 2 for TensorFlow 2.16: its own dependencies would bring a second, larger TensorFlow.
if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps tf-keras==2.16.0
fi
say "ready"
