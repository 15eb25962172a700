/* The command handlers: the whole agent with a network in it, on a board made of buffers.
 *
 * Every framed request is answered once; a request sent again gets the same answer and changes nothing; no request
 * but those for faults anywhere changes a bit between two parameters; RESTORE brings all of them back. */
#include <agent.c> /* the firmware's, for its state to be cleared */

#include <setjmp.h>

#include "fuzz.h"
#include "network.h"
#include "zob_fault.h"

enum { NOISE, NEXT, AGAIN, STRAY, STEPS };

static struct frame_receiver host; /* takes what the board sends */
static struct {
    struct msg_frame_header header;
    uint32_t crc, count;
} reply;
static jmp_buf restart;
static uint8_t inputs[4096] __attribute__((aligned(8)));
static uint8_t memory[256];
static uint32_t boots;
static bool anywhere; /* a request may have changed any memory */

void board_init(void) {}
bool board_read(uint8_t *byte) { return (void)byte, false; }
void board_wait(void) {}
uint32_t board_overruns(void) { return 0; }
uint32_t board_boots(void) { return boots; }
const struct board_fault *board_last_fault(void) {
    static const struct board_fault none;
    return &none;
}
enum board_counter board_counter(void) { return BOARD_COUNTS_NOTHING; }
void board_reset(void) { longjmp(restart, 1); }

uint8_t *board_memory(uint32_t *bytes) {
    *bytes = sizeof memory;
    return memory;
}

uint32_t board_window(void) { return 1; }

uint32_t board_count(void (*section)(void *), void *context, uint32_t limit) {
    (void)limit;
    section(context);
    return 0;
}

uint8_t *board_input_buffer(uint32_t *bytes) {
    *bytes = sizeof inputs;
    return inputs;
}

void board_write(const uint8_t *bytes, uint32_t count) {
    struct frame f;
    for (uint32_t i = 0; i < count; i++) {
        if (!frame_receive(&host, bytes[i], &f)) continue;
        reply.count++;
        reply.header = f.header;
        reply.crc = zob_crc32(0u, f.payload, f.header.length);
    }
    MUST(host.bad == 0u && host.length == 0u);
}

static void boot(void) {
    memset(&receiver, 0, sizeof receiver);
    memset(&last, 0, sizeof last);
    memset(&host, 0, sizeof host);
    boots++;
    reply.count = 0;
    agent_start();
    MUST(reply.count == 1u && reply.header.type == MSG_READY);
    MUST(network_crc() == network_flash_crc());
}

static void put(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) agent_take(bytes[i]);
}

/* Send a request whose bytes are its type and its payload; the number of answers is checked. */
static void ask(uint8_t type, uint16_t sequence, const uint8_t *payload, size_t length) {
    aligned_bytes buffer[BUFFER(MSG_MAX_PAYLOAD)];
    if (length) memcpy((uint8_t *)buffer + FRAME_PAYLOAD, payload, length);
    const uint32_t wire_bytes = frame_finish((uint8_t *)buffer, type, sequence, (uint32_t)length);
    put((uint8_t *)buffer, 1u); /* ends the noise before, which may be a request, too */
    reply.count = 0;
    put((uint8_t *)buffer + 1, wire_bytes - 1u);
    MUST(reply.count == 1u);
    MUST(reply.header.sequence == sequence);
    MUST(reply.header.type == MSG_ERROR || reply.header.type == (uint8_t)(type | MSG_REPLY));
}

/* Addresses in scripts count from the image on: where that lies is another place in every build. */
static void relocate(uint8_t type, uint8_t *payload, size_t length) {
    const size_t first = type == MSG_READ_MEMORY  ? 0u
                         : type == MSG_FLIP_MEMORY ? sizeof(struct msg_flip_memory_request)
                         : type == MSG_ARM         ? sizeof(struct msg_arm_request)
                                                   : length;
    for (size_t at = first; at + 4u <= length; at += sizeof(struct msg_memory_bit)) {
        uint32_t address;
        memcpy(&address, payload + at, sizeof address);
        address += (uint32_t)(uintptr_t)network_image();
        memcpy(payload + at, &address, sizeof address);
    }
}

static void request(const struct step *step) {
    static uint8_t payload[MSG_MAX_PAYLOAD];
    const uint8_t type = step->length ? step->bytes[0] : 0u;
    size_t length = step->length > 0u ? step->length - 1u : 0u;
    const uint16_t next = (uint16_t)(last.sequence + 1u);
    if (length > MSG_MAX_PAYLOAD) length = MSG_MAX_PAYLOAD;
    if (length) memcpy(payload, step->bytes + 1, length);
    relocate(type, payload, length);
    anywhere |= type == MSG_FLIP_MEMORY || type == MSG_ARM;
    if (step->what % STEPS == STRAY) {
        const uint32_t before = network_crc();
        const uint16_t sequence = (uint16_t)(last.sequence + 2u + length);
        ask(type, sequence, payload, length);
        MUST(type == MSG_HELLO || network_crc() == before);
        return;
    }
    ask(type, next, payload, length);
    if (step->what % STEPS == AGAIN && type != MSG_HELLO && last.wire_bytes) {
        const uint32_t before = network_crc(), crc = reply.crc;
        ask(type, next, payload, length);
        MUST(reply.crc == crc && network_crc() == before);
    }
}

/* No bit outside the parameters has changed, and RESTORE brings the others back. */
static void check_memory(void) {
    static uint8_t now[1u << 16];
    const uint32_t bytes = network_image_bytes();
    MUST(bytes <= sizeof now);
    memcpy(now, network_image(), bytes);
    network_restore();
    MUST(network_crc() == network_flash_crc());
    for (uint32_t i = 0; i < bytes; i++) {
        const uint32_t changed = now[i] ^ network_image()[i];
        for (uint32_t bit = 0; changed >> bit; bit++) {
            MUST(anywhere || !(changed >> bit & 1u) || network_holds(8u * i + bit, 1u));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t *at; /* static: a reset comes back here by longjmp */
    static size_t left;
    static struct step step;
    at = data;
    left = size;
    boots = 0;
    anywhere = false;
    memset(inputs, 0, sizeof inputs);
    (void)setjmp(restart);
    boot();
    while (next_step(&at, &left, &step)) {
        if (step.what % STEPS == NOISE) put(step.bytes, step.length);
        else request(&step);
    }
    check_memory();
    return 0;
}
