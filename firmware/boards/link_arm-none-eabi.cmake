# What every Cortex-M board links: the parts in common/ and the memory that board.toml describes.
set(common ${boards}/common)
target_sources(firmware PRIVATE
  ${common}/vectors.S ${common}/startup.c ${common}/fault.c ${common}/counter.c ${common}/uart.c
  ${common}/uart_${BOARD_uart}.c)
target_include_directories(firmware PRIVATE ${common})
target_compile_definitions(firmware PRIVATE
  BOARD_BAUD=${BOARD_baud}u BOARD_UART_BASE=${BOARD_uart_base}u BOARD_UART_IRQ=${BOARD_uart_irq}u
  BOARD_UART_HZ=${BOARD_uart_hz}u BOARD_TIMER_HZ=${BOARD_timer_hz}u BOARD_ICOUNT_SHIFT=${BOARD_icount_shift}u)

configure_file(${common}/memory.ld.in memory.ld)
target_link_options(firmware PRIVATE -nostartfiles --specs=nano.specs -Wl,--gc-sections
  -L${CMAKE_CURRENT_BINARY_DIR} -T${common}/sections.ld)
set_target_properties(firmware PROPERTIES LINK_DEPENDS "${common}/sections.ld;${CMAKE_CURRENT_BINARY_DIR}/memory.ld")
