# How everything that runs on the board is compiled, the engine included.
separate_arguments(flags UNIX_COMMAND "${BOARD_flags}")
add_compile_options(
  ${flags} -O2 -g -ffunction-sections -fdata-sections
  -Wall -Wextra -Wpedantic
  # No contraction: a fused multiply-add rounds once where the specification rounds twice.
  -ffp-contract=off
  # No vectorization: MVE's float operations flush subnormals, which the specification keeps.
  -fno-tree-vectorize
  # GCC's first scheduler and reassociation lengthen live ranges and spill: a quarter more instructions a MAC.
  -fno-schedule-insns -fno-tree-reassoc
  # The same sources give the same file, wherever they lie.
  -ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -ffile-prefix-map=${CMAKE_BINARY_DIR}=build
)
if(ZOB_MODEL_DIR)
  add_compile_options(-ffile-prefix-map=${ZOB_MODEL_DIR}=model)
endif()
# For assembly GCC heeds the older option only.
add_compile_options(
  $<$<COMPILE_LANGUAGE:ASM>:-fdebug-prefix-map=${CMAKE_SOURCE_DIR}=.>
  $<$<COMPILE_LANGUAGE:ASM>:-fdebug-prefix-map=${CMAKE_BINARY_DIR}=build>
)
add_compile_options($<$<COMPILE_LANGUAGE:C>:-Wconversion> $<$<COMPILE_LANGUAGE:C>:-Wshadow>)
if(NOT BOARD_toolchain STREQUAL "native")
  # Who calls whom, and how much stack each function uses: what `zobnn audit` adds up.
  add_compile_options($<$<COMPILE_LANGUAGE:C>:-fcallgraph-info=su,da>)
endif()
add_link_options(${flags} -Wl,-Map=${CMAKE_BINARY_DIR}/firmware.map)
# What is seldom run is compiled with these: a loop's condition lies at its head alone, and what a loop needs is made where
# it is used.
set(ZOB_COMPACT -Os -fno-tree-ch -fno-ivopts -fno-move-loop-invariants)
