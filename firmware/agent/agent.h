/* The agent: takes bytes off the serial line, answers requests. Every request is carried out once, however often it
 * arrives: a frame with the number after the last one is a new request, one with the number of the last one is that
 * request again and gets the same reply again, every other number is refused. HELLO begins a new count. */
#ifndef AGENT_H
#define AGENT_H

#include <stdint.h>

/* Set up the network and say that the board is ready; called once, after board_init. */
void agent_start(void);

/* Take one byte; answers when it completes a request. */
void agent_take(uint8_t byte);

#endif
