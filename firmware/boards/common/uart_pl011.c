/* Port: Arm's PrimeCell UART PL011, in RP2040 and others. */
#include "cortex_m.h"
#include "uart.h"

#define DATA REGISTER(BOARD_UART_BASE + 0x00u)
#define ERRORS REGISTER(BOARD_UART_BASE + 0x04u)
#define ERROR_OVERRUN (1u << 3)
#define FLAGS REGISTER(BOARD_UART_BASE + 0x18u)
#define FLAG_BUSY (1u << 3)
#define FLAG_RX_EMPTY (1u << 4)
#define FLAG_TX_FULL (1u << 5)
#define DIVISOR_INTEGER REGISTER(BOARD_UART_BASE + 0x24u)
#define DIVISOR_FRACTION REGISTER(BOARD_UART_BASE + 0x28u)
#define LINE REGISTER(BOARD_UART_BASE + 0x2Cu)
#define LINE_8N1_FIFO 0x70u
#define CONTROL REGISTER(BOARD_UART_BASE + 0x30u)
#define CONTROL_ON 0x301u /* port, transmitter, receiver */
#define FIFO_LEVELS REGISTER(BOARD_UART_BASE + 0x34u)
#define INTERRUPTS_ON REGISTER(BOARD_UART_BASE + 0x38u)
#define INTERRUPT_RX (1u << 4)
#define INTERRUPT_RX_TIMEOUT (1u << 6) /* fewer bytes in the FIFO than its level, and no more to come */

#define DIVISOR_64THS ((4u * BOARD_UART_HZ + BOARD_BAUD / 2u) / BOARD_BAUD) /* of clock / (16 * baud) */

void port_init(void) {
    DIVISOR_INTEGER = DIVISOR_64THS / 64u;
    DIVISOR_FRACTION = DIVISOR_64THS % 64u;
    LINE = LINE_8N1_FIFO; /* takes over the divisor, too */
    FIFO_LEVELS = 0u;
    INTERRUPTS_ON = INTERRUPT_RX | INTERRUPT_RX_TIMEOUT;
    CONTROL = CONTROL_ON;
}

bool port_receive(uint8_t *byte) {
    if (FLAGS & FLAG_RX_EMPTY) return false;
    *byte = (uint8_t)DATA;
    return true;
}

bool port_overrun(void) {
    if (!(ERRORS & ERROR_OVERRUN)) return false;
    ERRORS = 0u; /* any value clears them */
    return true;
}

/* Reading the FIFO ends both interrupts; clearing them by hand could lose one for a byte that comes in between. */
void port_acknowledge(void) {}

void port_send(uint8_t byte) {
    while (FLAGS & FLAG_TX_FULL) {
    }
    DATA = byte;
}

void port_flush(void) {
    while (FLAGS & FLAG_BUSY) {
    }
}
