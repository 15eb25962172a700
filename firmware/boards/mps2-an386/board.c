/* Arm MPS2 with FPGA image AN386: Cortex-M4F at 25 MHz, clocked and connected by the board itself. */
#include "board.h"

#include "cortex_m.h"
#include "counter.h"
#include "startup.h"
#include "uart.h"

#define UART0 0x40004000u
#define UART0_IRQ 0u
#define FPGAIO_COUNTER REGISTER(0x40028018u)

void board_init(void) {
    uart_init(UART0, UART0_IRQ, BOARD_CLOCK_HZ / BOARD_BAUD);
    counter_init();
}

uint32_t board_timer(void) { return FPGAIO_COUNTER; }

void board_reset(void) {
    uart_flush();
    startup_reset();
}
