/* Port: the USART of STM32F1, F2 and F4. */
#include "cortex_m.h"
#include "uart.h"

#define SR_OVERRUN (1u << 3)
#define SR_RX_FULL (1u << 5)
#define SR_TX_COMPLETE (1u << 6)
#define SR_TX_EMPTY (1u << 7)
#define CR1_RX_ENABLE (1u << 2)
#define CR1_TX_ENABLE (1u << 3)
#define CR1_RX_INTERRUPT (1u << 5)
#define CR1_ENABLE (1u << 13)

struct registers {
    uint32_t status, data, divisor, control1;
};
static volatile struct registers *const port = (volatile struct registers *)BOARD_UART_BASE;

void port_init(void) {
    port->divisor = (BOARD_UART_HZ + BOARD_BAUD / 2u) / BOARD_BAUD;
    port->control1 = CR1_ENABLE | CR1_TX_ENABLE | CR1_RX_ENABLE | CR1_RX_INTERRUPT;
}

/* An overrun raises the interrupt, too, and only reading the data register ends it. */
bool port_receive(uint8_t *byte) {
    if (!(port->status & (SR_RX_FULL | SR_OVERRUN))) return false;
    *byte = (uint8_t)port->data;
    return true;
}

bool port_overrun(void) { return (port->status & SR_OVERRUN) != 0u; }

void port_acknowledge(void) {}

void port_send(uint8_t byte) {
    while (!(port->status & SR_TX_EMPTY)) {
    }
    port->data = byte;
}

void port_flush(void) {
    while (!(port->status & SR_TX_COMPLETE)) {
    }
}
