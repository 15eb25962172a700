/* The requests of the link, one function each (docs/spec.md, "Messages").
 *
 * A command checks its request first and changes nothing when it refuses it; no request can reach memory outside the
 * image and the input buffer, but those that exist to do so: FLIP_MEMORY, READ_MEMORY and ARM reach all of SRAM. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdint.h>

/* Counters of the link, for STATUS. */
struct link_counters {
    uint32_t frames, bad_frames, repeats, strays;
};

/* A request as it came, and where its reply goes: up to MSG_MAX_PAYLOAD bytes; both aligned to 8. */
struct exchange {
    uint8_t type;
    const void *request;
    uint32_t request_bytes;
    void *reply;
    uint32_t reply_bytes; /* filled in */
    uint32_t detail;      /* filled in on refusal: the index, status or value that was refused */
    struct link_counters counters;
};

/* Set up the network; called once, after board_init. */
void commands_init(void);

/* Carry out a request. Returns 0, or the MSG_ERROR_... code of its refusal. RESET only answers: the caller resets when
 * the reply is sent. */
uint16_t commands_do(struct exchange *e);

#endif
