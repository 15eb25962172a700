#include "agent.h"

#include <string.h>

#include "board.h"
#include "commands.h"
#include "frame.h"

typedef uint64_t aligned_bytes; /* buffers are made of these, so that payloads are aligned to 8 bytes */
#define BUFFER(payload) ((FRAME_BUFFER(payload) + sizeof(aligned_bytes) - 1u) / sizeof(aligned_bytes))

static struct frame_receiver receiver;
static uint32_t repeats, strays;

/* The last request that was carried out or refused by its command, and its reply as it went over the wire. */
static struct {
    aligned_bytes buffer[BUFFER(MSG_MAX_PAYLOAD)];
    uint32_t wire_bytes; /* 0: no session yet */
    uint16_t sequence;
    uint32_t nonce; /* of the session */
} last;

static void send(const aligned_bytes *buffer, uint32_t wire_bytes) { board_write((const uint8_t *)buffer, wire_bytes); }

/* What is known of a fault goes into the message as it lies. */
typedef char fault_in_ready_check[sizeof(struct msg_ready) == sizeof(uint32_t) + sizeof(struct board_fault) ? 1 : -1];

void agent_start(void) {
    aligned_bytes buffer[BUFFER(sizeof(struct msg_ready))];
    struct msg_ready *const ready = (struct msg_ready *)(void *)((uint8_t *)buffer + FRAME_PAYLOAD);
    commands_init();
    ready->boots = board_boots();
    memcpy(&ready->exception, board_last_fault(), sizeof(struct board_fault));
    send(buffer, frame_finish((uint8_t *)buffer, MSG_READY, 0u, sizeof *ready));
}

static uint32_t put_error(uint8_t *buffer, const struct frame *f, uint16_t code, uint32_t detail) {
    const struct msg_error error = {code, f->header.type, detail};
    memcpy(buffer + FRAME_PAYLOAD, &error, sizeof error);
    return frame_finish(buffer, MSG_ERROR, f->header.sequence, sizeof error);
}

/* Refuse a frame that is no request of this session; the last reply stays as it is. */
static void reject(const struct frame *f, uint16_t code, uint32_t detail) {
    aligned_bytes buffer[BUFFER(sizeof(struct msg_error))];
    strays++;
    send(buffer, put_error((uint8_t *)buffer, f, code, detail));
}

static void carry_out(const struct frame *f) {
    uint8_t *const buffer = (uint8_t *)last.buffer;
    struct exchange e = {
        .type = f->header.type,
        .request = f->payload,
        .request_bytes = f->header.length,
        .reply = buffer + FRAME_PAYLOAD,
        .counters = {receiver.good, receiver.bad, repeats, strays},
    };
    const uint16_t error = commands_do(&e);
    if (error) last.wire_bytes = put_error(buffer, f, error, e.detail);
    else last.wire_bytes = frame_finish(buffer, f->header.type | MSG_REPLY, f->header.sequence, e.reply_bytes);
    last.sequence = f->header.sequence;
    send(last.buffer, last.wire_bytes);
    if (f->header.type == MSG_RESET && !error) board_reset();
}

/* Whether a frame is a HELLO that begins another session; one that comes late or twice must not set the count back. */
static bool begins_session(const struct frame *f) {
    struct msg_hello_request request;
    if (f->header.type != MSG_HELLO || f->header.length != sizeof request) return false;
    memcpy(&request, f->payload, sizeof request);
    if (last.wire_bytes && request.nonce == last.nonce) return false;
    last.nonce = request.nonce;
    return true;
}

void agent_take(uint8_t byte) {
    struct frame f;
    if (!frame_receive(&receiver, byte, &f)) return;
    if (f.header.version != MSG_PROTOCOL_VERSION) {
        reject(&f, MSG_ERROR_VERSION, f.header.version);
    } else if (begins_session(&f)) {
        carry_out(&f);
    } else if (!last.wire_bytes) {
        reject(&f, MSG_ERROR_SESSION, 0u);
    } else if (f.header.sequence == last.sequence) {
        repeats++;
        send(last.buffer, last.wire_bytes);
    } else if (f.header.sequence == (uint16_t)(last.sequence + 1u)) {
        carry_out(&f);
    } else {
        reject(&f, MSG_ERROR_SEQUENCE, last.sequence);
    }
}
