/* The serial line: bytes are received by interrupt into a ring and sent by waiting.
 *
 * uart.c is the part that all boards share; a port (uart_cmsdk.c, uart_stm32.c) knows one kind of hardware. A board links
 * one port and implements board_read, board_wait, board_write and board_overruns through uart.c. */
#ifndef UART_H
#define UART_H

#include <stdbool.h>
#include <stdint.h>

/* Start the port at `base` with interrupt number `irq`. `divisor` is what the port's baud rate register takes; the
 * board has clocked the port and connected its pins. Interrupts are enabled afterwards. */
void uart_init(uint32_t base, uint32_t irq, uint32_t divisor);

/* The interrupt of the port; all vectors lead here. */
void uart_interrupt(void);

/* Wait until the last byte has left the port. */
void uart_flush(void);

/* What a port provides. */
void port_init(uint32_t base, uint32_t divisor); /* send, receive, interrupt on receiving */
bool port_receive(uint8_t *byte);                /* take the byte received; false when there is none */
bool port_overrun(void);                         /* has a byte been lost? clears the mark */
void port_acknowledge(void);                     /* end the interrupt, where reading the byte does not */
void port_send(uint8_t byte);                    /* wait for room, then send */
void port_flush(void);                           /* wait until everything is sent */

#endif
