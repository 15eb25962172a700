/* The serial line: bytes are received by interrupt into a ring and sent by waiting.
 *
 * uart.c is the part that all boards share; a port (uart_cmsdk.c, uart_stm32.c ...) knows one kind of hardware. board.toml
 * names the port; the build defines BOARD_UART_BASE, BOARD_UART_IRQ, BOARD_UART_HZ (the port's clock), BOARD_BAUD. */
#ifndef UART_H
#define UART_H

#include <stdbool.h>
#include <stdint.h>

/* Start the port; the board has clocked it and connected its pins. Interrupts are enabled afterwards. */
void uart_init(void);

/* The interrupt of the port; all vectors lead here. */
void uart_interrupt(void);

/* Hold the interrupt off, and let it come again. */
void uart_hold(void);
void uart_release(void);

/* Wait until the last byte has left the port. */
void uart_flush(void);

/* What a port provides. */
void port_init(void);             /* send, receive, interrupt on receiving */
bool port_receive(uint8_t *byte); /* take the byte received; false when there is none */
bool port_overrun(void);          /* has a byte been lost? clears the mark */
void port_acknowledge(void);      /* end the interrupt, where reading the byte does not */
void port_send(uint8_t byte);     /* wait for room, then send */
void port_flush(void);            /* wait until everything is sent */

#endif
