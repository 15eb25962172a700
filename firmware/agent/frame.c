#include "frame.h"

#include <string.h>

#include "zob_fault.h"

typedef char frame_header_bytes_check[sizeof(struct msg_frame_header) == FRAME_HEADER_BYTES ? 1 : -1];
/* COBS adds one byte a block of 254, and there is the leading zero byte: in-place encoding never overtakes itself. */
typedef char frame_lead_check[2u + FRAME_MAX_BYTES / 254u <= FRAME_LEAD ? 1 : -1];

/* Decode `length` bytes in place. Returns the number of decoded bytes, 0 when it is no COBS. */
static uint32_t cobs_decode(uint8_t *bytes, uint32_t length) {
    uint32_t in = 0, out = 0;
    while (in < length) {
        const uint32_t code = bytes[in];
        if (code > length - in) return 0u;
        for (uint32_t i = 1; i < code; i++) bytes[out++] = bytes[in + i];
        in += code;
        if (code < 255u && in < length) bytes[out++] = 0u;
    }
    return out;
}

/* Encode `length` bytes at `in` to `out`, which lies before them. Returns the number of encoded bytes. */
static uint32_t cobs_encode(const uint8_t *in, uint32_t length, uint8_t *out) {
    uint32_t block = 0, at = 1;
    for (uint32_t i = 0; i < length; i++) {
        const uint8_t byte = in[i];
        if (byte) out[at++] = byte;
        if (byte == 0u || (at - block == 255u && i + 1u < length)) {
            out[block] = (uint8_t)(at - block);
            block = at++;
        }
    }
    out[block] = (uint8_t)(at - block);
    return at;
}

static bool parse(struct frame_receiver *r, struct frame *frame) {
    uint32_t crc;
    const uint32_t length = r->length <= FRAME_MAX_COBS ? cobs_decode(r->bytes, r->length) : 0u;
    if (length < FRAME_HEADER_BYTES + MSG_CRC_BYTES) return false;
    memcpy(&crc, r->bytes + length - MSG_CRC_BYTES, sizeof crc);
    if (crc != zob_crc32(0u, r->bytes, length - MSG_CRC_BYTES)) return false;
    memcpy(&frame->header, r->bytes, sizeof frame->header);
    frame->payload = r->bytes + FRAME_HEADER_BYTES;
    return frame->header.length == length - FRAME_HEADER_BYTES - MSG_CRC_BYTES;
}

bool frame_receive(struct frame_receiver *r, uint8_t byte, struct frame *frame) {
    bool good;
    if (byte) {
        if (r->length < FRAME_MAX_COBS) r->bytes[r->length] = byte;
        if (r->length <= FRAME_MAX_COBS) r->length++;
        return false;
    }
    if (r->length == 0u) return false; /* the zero byte in front of a frame */
    good = parse(r, frame);
    if (good) r->good++;
    else r->bad++;
    r->length = 0;
    return good;
}

uint32_t frame_finish(uint8_t *buffer, uint8_t type, uint16_t sequence, uint32_t length) {
    const struct msg_frame_header header = {MSG_PROTOCOL_VERSION, type, sequence, (uint16_t)length, 0u};
    uint8_t *const raw = buffer + FRAME_LEAD;
    const uint32_t checked = FRAME_HEADER_BYTES + length;
    uint32_t crc, wire;
    memcpy(raw, &header, sizeof header);
    crc = zob_crc32(0u, raw, checked);
    memcpy(raw + checked, &crc, sizeof crc);
    buffer[0] = 0u;
    wire = 1u + cobs_encode(raw, checked + MSG_CRC_BYTES, buffer + 1);
    buffer[wire++] = 0u;
    return wire;
}
