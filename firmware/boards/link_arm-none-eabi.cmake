# What every Cortex-M board links: the parts in common/ and the memory that board.toml describes.
set(common ${boards}/common)
math(EXPR vectors "${BOARD_uart_irq} + 1")
set_property(SOURCE ${common}/vectors.S PROPERTY COMPILE_DEFINITIONS UART_VECTORS=${vectors})
target_sources(firmware PRIVATE
  ${common}/vectors.S ${common}/startup.c ${common}/memory.c ${common}/fault.c ${common}/counter.c ${common}/uart.c
  ${common}/uart_${BOARD_uart}.c)
# Loops that copy must not become calls of what they are in.
set_source_files_properties(${common}/memory.c PROPERTIES COMPILE_OPTIONS
  "-Os;-fno-tree-loop-distribute-patterns")
if(BOARD_chip)
  target_sources(firmware PRIVATE ${common}/chip_${BOARD_chip}.c)
endif()
target_include_directories(firmware PRIVATE ${common})

configure_file(${common}/memory.ld.in memory.ld)
target_link_options(firmware PRIVATE -nostartfiles --specs=nano.specs -Wl,--gc-sections
  -L${CMAKE_CURRENT_BINARY_DIR} -T${common}/sections.ld)
set_target_properties(firmware PROPERTIES LINK_DEPENDS "${common}/sections.ld;${CMAKE_CURRENT_BINARY_DIR}/memory.ld")
