#!/usr/bin/env bash
# Warnings as errors for this machine and for Cortex-M, then cppcheck and clang-tidy: tools/lint_c.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
warnings=(-std=c99 -O2 -ffp-contract=off -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror -fsyntax-only)
cortex=(-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16)
sources=(firmware/engine/*.c firmware/agent/frame.c)

for source in "${sources[@]}"; do
    gcc "${warnings[@]}" -Ifirmware/engine -Ifirmware/agent "$source"
    arm-none-eabi-gcc "${cortex[@]}" "${warnings[@]}" -Ifirmware/engine -Ifirmware/agent "$source"
done
cppcheck --quiet --std=c99 --error-exitcode=1 --inline-suppr --enable=warning,performance,portability \
    -Ifirmware/engine -Ifirmware/agent "${sources[@]}"
"$venv/bin/clang-tidy" --quiet "${sources[@]}" -- -std=c99 -Ifirmware/engine -Ifirmware/agent
echo "C: no warnings"
