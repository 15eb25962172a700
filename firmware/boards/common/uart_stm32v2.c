/* Port: the USART of STM32L4 and H7, and of other STM32 since the F0. */
#include "cortex_m.h"
#include "uart.h"

#define ISR_OVERRUN (1u << 3)
#define ISR_RX_FULL (1u << 5)
#define ISR_TX_COMPLETE (1u << 6)
#define ISR_TX_EMPTY (1u << 7)
#define CR1_ENABLE 1u
#define CR1_RX_ENABLE (1u << 2)
#define CR1_TX_ENABLE (1u << 3)
#define CR1_RX_INTERRUPT (1u << 5)

struct registers {
    uint32_t control1, control2, control3, divisor, guard_time, timeout, request, status, clear, rx_data, tx_data;
};
static volatile struct registers *const port = (volatile struct registers *)BOARD_UART_BASE;

void port_init(void) {
    port->divisor = (BOARD_UART_HZ + BOARD_BAUD / 2u) / BOARD_BAUD;
    port->control1 = CR1_ENABLE | CR1_TX_ENABLE | CR1_RX_ENABLE | CR1_RX_INTERRUPT;
}

bool port_receive(uint8_t *byte) {
    if (!(port->status & ISR_RX_FULL)) return false;
    *byte = (uint8_t)port->rx_data;
    return true;
}

/* An overrun raises the interrupt, too, until its mark is cleared. */
bool port_overrun(void) {
    if (!(port->status & ISR_OVERRUN)) return false;
    port->clear = ISR_OVERRUN;
    return true;
}

void port_acknowledge(void) {}

void port_send(uint8_t byte) {
    while (!(port->status & ISR_TX_EMPTY)) {
    }
    port->tx_data = byte;
}

void port_flush(void) {
    while (!(port->status & ISR_TX_COMPLETE)) {
    }
}
