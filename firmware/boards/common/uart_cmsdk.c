/* Port: the UART of Arm's Cortex-M System Design Kit, on the MPS2 and MPS3 boards. */
#include "cortex_m.h"
#include "uart.h"

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define STATE_RX_OVERRUN 8u
#define CTRL_TX_ENABLE 1u
#define CTRL_RX_ENABLE 2u
#define CTRL_RX_INTERRUPT 8u
#define INTERRUPT_RX 2u

struct registers {
    uint32_t data, state, ctrl, interrupt, divisor;
};
static volatile struct registers *const port = (volatile struct registers *)BOARD_UART_BASE;

void port_init(void) {
    port->divisor = BOARD_UART_HZ / BOARD_BAUD;
    port->ctrl = CTRL_TX_ENABLE | CTRL_RX_ENABLE | CTRL_RX_INTERRUPT;
    (void)port->data; /* makes QEMU look again for bytes that were waiting before the receiver was on */
}

bool port_receive(uint8_t *byte) {
    if (!(port->state & STATE_RX_FULL)) return false;
    *byte = (uint8_t)port->data;
    return true;
}

bool port_overrun(void) {
    if (!(port->state & STATE_RX_OVERRUN)) return false;
    port->state = STATE_RX_OVERRUN;
    return true;
}

void port_acknowledge(void) { port->interrupt = INTERRUPT_RX; }

void port_send(uint8_t byte) {
    while (port->state & STATE_TX_FULL) {
    }
    port->data = byte;
}

/* The port does not tell when its shift register is empty; with the buffer empty one byte may be under way, which
 * survives the reset of the core. */
void port_flush(void) {
    while (port->state & STATE_TX_FULL) {
    }
}
