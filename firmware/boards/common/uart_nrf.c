/* Port: the UART of nRF51 and nRF52; the board has chosen its pins. */
#include "cortex_m.h"
#include "uart.h"

#define START_RX REGISTER(BOARD_UART_BASE + 0x000u)
#define START_TX REGISTER(BOARD_UART_BASE + 0x008u)
#define RX_READY REGISTER(BOARD_UART_BASE + 0x108u)
#define TX_READY REGISTER(BOARD_UART_BASE + 0x11Cu)
#define INTERRUPTS_ON REGISTER(BOARD_UART_BASE + 0x304u)
#define INTERRUPT_RX_READY (1u << 2)
#define ERRORS REGISTER(BOARD_UART_BASE + 0x480u)
#define ERROR_OVERRUN 1u
#define ENABLE REGISTER(BOARD_UART_BASE + 0x500u)
#define ENABLE_UART 4u
#define RX_DATA REGISTER(BOARD_UART_BASE + 0x518u)
#define TX_DATA REGISTER(BOARD_UART_BASE + 0x51Cu)
#define BAUD_RATE REGISTER(BOARD_UART_BASE + 0x524u)

/* 2^32 * baud / clock, of which the port takes the upper 20 bits. */
#define BAUD_VALUE ((uint32_t)((((uint64_t)BOARD_BAUD << 32) / BOARD_UART_HZ + 0x800u) & 0xFFFFF000u))

void port_init(void) {
    BAUD_RATE = BAUD_VALUE;
    ENABLE = ENABLE_UART;
    INTERRUPTS_ON = INTERRUPT_RX_READY;
    START_TX = 1u;
    START_RX = 1u;
}

/* The event is cleared before the byte is taken: the byte behind it raises it again. */
bool port_receive(uint8_t *byte) {
    if (!RX_READY) return false;
    RX_READY = 0u;
    *byte = (uint8_t)RX_DATA;
    return true;
}

bool port_overrun(void) {
    if (!(ERRORS & ERROR_OVERRUN)) return false;
    ERRORS = ERROR_OVERRUN;
    return true;
}

void port_acknowledge(void) {}

/* The port says when a byte has been sent, not when there is room for one. */
void port_send(uint8_t byte) {
    TX_READY = 0u;
    TX_DATA = byte;
    while (!TX_READY) {
    }
}

void port_flush(void) {}
