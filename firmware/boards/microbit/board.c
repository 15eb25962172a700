/* nRF51822 of the micro:bit: 16 MHz from the crystal, whose precision the serial line needs. */
#include "cortex_m.h"
#include "startup.h"

#define CLOCK_HFCLKSTART REGISTER(0x40000000u)
#define CLOCK_HFCLKSTARTED REGISTER(0x40000100u)

#define GPIO_OUTSET REGISTER(0x50000508u)
#define GPIO_DIRSET REGISTER(0x50000518u)
#define GPIO_PIN_CNF(pin) REGISTER(0x50000700u + 4u * (pin))
#define GPIO_PIN_CNF_INPUT 0u

#define UART_PSEL_TXD REGISTER(BOARD_UART_BASE + 0x50Cu)
#define UART_PSEL_RXD REGISTER(BOARD_UART_BASE + 0x514u)
#define TX_PIN 24u
#define RX_PIN 25u

void startup_clocks(void) {
    CLOCK_HFCLKSTART = 1u;
    while (!CLOCK_HFCLKSTARTED) {
    }
    GPIO_OUTSET = 1u << TX_PIN;
    GPIO_DIRSET = 1u << TX_PIN;
    GPIO_PIN_CNF(RX_PIN) = GPIO_PIN_CNF_INPUT;
    UART_PSEL_TXD = TX_PIN;
    UART_PSEL_RXD = RX_PIN;
}
