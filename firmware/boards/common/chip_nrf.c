/* nRF51 and nRF52: the high-frequency clock from its crystal, whose precision the serial line needs; UART on the pins
 * tx_pin and rx_pin of port 0 that board.toml names. */
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

#define NVMC_ICACHECNF REGISTER(0x4001E540u)
#define NVMC_ICACHECNF_ENABLE 1u

void startup_clocks(void) {
    CLOCK_HFCLKSTART = 1u;
    while (!CLOCK_HFCLKSTARTED) {
    }
#if __ARM_ARCH >= 7 /* nRF52: a cache before its flash; nRF51 has neither cache nor wait states */
    NVMC_ICACHECNF = NVMC_ICACHECNF_ENABLE;
#endif
    GPIO_OUTSET = 1u << BOARD_TX_PIN;
    GPIO_DIRSET = 1u << BOARD_TX_PIN;
    GPIO_PIN_CNF(BOARD_RX_PIN) = GPIO_PIN_CNF_INPUT;
    UART_PSEL_TXD = BOARD_TX_PIN;
    UART_PSEL_RXD = BOARD_RX_PIN;
}
