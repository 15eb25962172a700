/* The frame parser: whatever came before, a good frame gets through, once and unchanged; no byte is touched outside. */
#include "frame.h"

#include <string.h>

#include "fuzz.h"

enum { NOISE, FRAME, DAMAGED, STEPS };

/* Feed bytes and return how many frames they end; `last` is the last of them. */
static uint32_t feed(struct frame_receiver *receiver, const uint8_t *bytes, size_t count, struct frame *last) {
    uint32_t frames = 0;
    for (size_t i = 0; i < count; i++) {
        if (!frame_receive(receiver, bytes[i], last)) continue;
        frames++;
        MUST(last->header.length <= MSG_MAX_PAYLOAD);
        MUST(last->payload + last->header.length <= receiver->bytes + sizeof receiver->bytes);
    }
    return frames;
}

/* The frame on the wire in a buffer of its own, no byte larger than needed. */
static uint8_t *framed(const struct step *step, uint32_t *wire_bytes) {
    const size_t length = step->length < MSG_MAX_PAYLOAD ? step->length : MSG_MAX_PAYLOAD;
    uint8_t *buffer = malloc(FRAME_BUFFER(length));
    MUST(buffer);
    if (length) memcpy(buffer + FRAME_PAYLOAD, step->bytes, length);
    *wire_bytes = frame_finish(buffer, step->what, (uint16_t)(step->length * 257u), (uint32_t)length);
    MUST(*wire_bytes <= FRAME_BUFFER(length));
    MUST(memchr(buffer + 1, 0, *wire_bytes - 1u) == buffer + *wire_bytes - 1u);
    return buffer;
}

static void take(struct frame_receiver *receiver, const struct step *step) {
    struct frame frame;
    uint32_t wire_bytes;
    uint8_t *wire = framed(step, &wire_bytes);
    if (step->what % STEPS == DAMAGED && step->length >= 3u) {
        const size_t at = ((size_t)step->bytes[0] | (size_t)step->bytes[1] << 8) % wire_bytes;
        wire[at] ^= step->bytes[2];
        (void)feed(receiver, wire, wire_bytes, &frame);
    } else {
        (void)feed(receiver, wire, 1u, &frame); /* the zero byte that ends what was before */
        MUST(feed(receiver, wire + 1, wire_bytes - 1u, &frame) == 1u);
        MUST(frame.header.version == MSG_PROTOCOL_VERSION && frame.header.type == step->what);
        MUST(frame.header.sequence == (uint16_t)(step->length * 257u));
        MUST(frame.header.length == (step->length < MSG_MAX_PAYLOAD ? step->length : MSG_MAX_PAYLOAD));
        MUST(!frame.header.length || memcmp(frame.payload, step->bytes, frame.header.length) == 0);
    }
    free(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frame_receiver *receiver = calloc(1, sizeof *receiver);
    struct frame frame;
    struct step step;
    MUST(receiver);
    while (next_step(&data, &size, &step)) {
        if (step.what % STEPS == NOISE) (void)feed(receiver, step.bytes, step.length, &frame);
        else take(receiver, &step);
    }
    free(receiver);
    return 0;
}
