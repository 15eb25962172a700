/* Frames of the link: zero byte, COBS of (header, payload, CRC-32), zero byte (docs/spec.md, "Link").
 *
 * Pure functions over buffers, no hardware: the same source runs in the firmware and in the tests on the host. */
#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "messages.h"

#define FRAME_HEADER_BYTES 8u
#define FRAME_MAX_BYTES (FRAME_HEADER_BYTES + MSG_MAX_PAYLOAD + MSG_CRC_BYTES)
#define FRAME_MAX_COBS (FRAME_MAX_BYTES + FRAME_MAX_BYTES / 254u + 1u)

/* A frame is built where it will be encoded, FRAME_LEAD bytes into its buffer: the room that COBS and the leading zero
 * byte need. The payload of a buffer that is aligned to 8 bytes is aligned to 8 bytes, too. */
#define FRAME_LEAD 8u
#define FRAME_PAYLOAD (FRAME_LEAD + FRAME_HEADER_BYTES)
#define FRAME_BUFFER(payload) (FRAME_PAYLOAD + (payload) + MSG_CRC_BYTES)

/* Collects the bytes off the wire. Begin with a zeroed one. */
struct frame_receiver {
    uint8_t bytes[FRAME_MAX_COBS] __attribute__((aligned(8)));
    uint32_t length; /* bytes since the last zero byte; more than fit: the frame is lost */
    uint32_t good;   /* frames received */
    uint32_t bad;    /* frames dropped: COBS, CRC or length wrong, or no frame at all (text) */
};

/* A received frame; `payload` points into the receiver, aligned to 8 bytes, and is good until its next byte. */
struct frame {
    struct msg_frame_header header;
    const uint8_t *payload;
};

/* Take one byte. True when it ends a good frame, which is then in `frame`: the CRC fits and header.length is the number
 * of payload bytes. The version is not looked at. */
bool frame_receive(struct frame_receiver *receiver, uint8_t byte, struct frame *frame);

/* Finish the frame whose `length` payload bytes (at most MSG_MAX_PAYLOAD) lie at buffer + FRAME_PAYLOAD, in a buffer of
 * at least FRAME_BUFFER(length) bytes: put header and CRC around them and encode all in place. Returns the number of
 * bytes, from the start of the buffer, that go over the wire. */
uint32_t frame_finish(uint8_t *buffer, uint8_t type, uint16_t sequence, uint32_t length);

#endif
