#!/usr/bin/env bash
# Warnings as errors for this machine and for Cortex-M, then cppcheck and clang-tidy: tools/lint_c.sh VENV
# (The firmware of every board is built with the same warnings by tests/boards/test_firmware.py.)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
warnings=(-std=c99 -O2 -ffp-contract=off -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror -fsyntax-only)
cortex=(-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16)
vectors=(-mcpu=cortex-m55 -mthumb -mfloat-abi=hard)
includes=(-Ifirmware/engine -Ifirmware/agent -Ifirmware/boards -Ifirmware/boards/common)
portable=(firmware/engine/*.c firmware/agent/frame.c)

for source in "${portable[@]}"; do
    gcc "${warnings[@]}" "${includes[@]}" "$source"
    arm-none-eabi-gcc "${cortex[@]}" "${warnings[@]}" "${includes[@]}" "$source"
    arm-none-eabi-gcc "${vectors[@]}" "${warnings[@]}" "${includes[@]}" "$source"
done
host=("${warnings[@]/-std=c99/-std=c11}")
gcc "${host[@]}" -mavx2 "${includes[@]}" firmware/host/tile_avx2.c
gcc "${host[@]}" -mavx512{f,bw,dq,vl,vpopcntdq,bitalg,vnni} "${includes[@]}" firmware/host/tile_avx512.c
for source in firmware/host/*.cpp; do
    [[ $source == *binding.cpp ]] || g++ -std=c++17 -O2 -ffp-contract=off -Wall -Wextra -Werror -fsyntax-only "${includes[@]}" "$source"
done
cppcheck --quiet --std=c99 --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
    "${includes[@]}" firmware/engine firmware/agent firmware/boards
"$venv/bin/clang-tidy" --quiet "${portable[@]}" -- -std=c99 "${includes[@]}" 2>/dev/null
echo "C: no warnings"
