#include "commands.h"

#include <stdbool.h>
#include <string.h>

#include "board.h"
#include "network.h"
#include "messages.h"
#include "zob_fault.h"

static uint32_t instructions; /* of the last inference */

void commands_init(void) { network_init(); }

static uint16_t refuse(struct exchange *e, uint16_t error, uint32_t detail) {
    e->detail = detail;
    return error;
}

/* The reply is a record of so many bytes, which lie there already, what follows it included. */
static uint16_t answer(struct exchange *e, uint32_t bytes) {
    e->reply_bytes = bytes;
    return 0;
}

/* The reply is a record of one number, and `tail` bytes that lie behind it already. */
static uint16_t answer_number(struct exchange *e, uint32_t number, uint32_t tail) {
    *(uint32_t *)e->reply = number;
    return answer(e, (uint32_t)sizeof number + tail);
}

#define MOST_TAIL (MSG_MAX_PAYLOAD - 4u) /* behind a record of one number */

/* True when [first, first + count) lies inside [0, size). */
static bool inside(uint64_t first, uint64_t count, uint64_t size) { return first <= size && count <= size - first; }

/* What of the protocol this firmware can do. */
static uint32_t capabilities(void) {
    const uint32_t can = MSG_CAN_MEMORY | MSG_CAN_ARM | MSG_CAN_WATCHDOG;
    return network_plan_in_ram() ? can | MSG_CAN_PLAN_IN_RAM : can;
}

static uint32_t address_of(const void *memory) { return (uint32_t)(uintptr_t)memory; }

static uint16_t do_hello(struct exchange *e) {
    const struct msg_hello_request *const request = e->request;
    struct msg_hello_reply *const reply = e->reply;
    memset(reply, 0, sizeof *reply);
    reply->nonce = request->nonce;
    reply->minor = MSG_PROTOCOL_MINOR;
    reply->generator = MSG_GENERATOR_VERSION;
    reply->capabilities = capabilities();
    reply->max_payload = MSG_MAX_PAYLOAD;
    reply->window = board_window();
    reply->plan_crc = network_plan_crc();
    reply->image_crc = network_flash_crc();
    reply->image_bytes = network_image_bytes();
    reply->memory_crc = network_crc();
    reply->memory_address = address_of(network_image());
    reply->plan_address = address_of(network_plan());
    reply->arena_address = address_of(network_arena());
    reply->arena_bytes = network_arena_bytes();
    reply->input_count = network_input_count();
    reply->output_count = network_output_count();
    reply->clock_hz = BOARD_CLOCK_HZ;
    reply->boots = board_boots();
    reply->counter = board_counter();
    memcpy(reply->board, BOARD_NAME, sizeof BOARD_NAME - 1u);
    reply->ram_address = address_of(board_memory(&reply->ram_bytes));
    (void)board_input_buffer(&reply->input_bytes);
    return answer(e, sizeof *reply);
}

static uint16_t do_put_inputs(struct exchange *e) {
    const struct msg_put_inputs_request *const request = e->request;
    const uint32_t bytes = e->request_bytes - (uint32_t)sizeof *request;
    uint32_t size;
    uint8_t *const buffer = board_input_buffer(&size);
    if (!inside(request->offset, bytes, size)) return refuse(e, MSG_ERROR_ADDRESS, request->offset);
    memcpy(buffer + request->offset, request + 1, bytes);
    return answer_number(e, bytes, 0u);
}

struct inference {
    const void *input;
    uint32_t format;
    zob_status status;
};

static void infer(void *context) {
    struct inference *i = context;
    i->status = network_run(i->input, i->format);
}

static uint16_t do_run(struct exchange *e) {
    const struct msg_run_request *const request = e->request;
    struct msg_run_reply *const reply = e->reply;
    const uint32_t scores_bytes = 4u * network_output_count(), count = request->count;
    const uint32_t input_bytes = network_input_count() * (request->format == ZOB_INPUT_FLOAT32 ? 4u : 1u);
    const bool fits = count <= (MSG_MAX_PAYLOAD - sizeof *reply) / scores_bytes;
    uint8_t *scores = (uint8_t *)(reply + 1);
    uint32_t buffer_bytes;
    struct inference job = {board_input_buffer(&buffer_bytes), request->format, ZOB_OK};
    if (request->format > ZOB_INPUT_UINT8) return refuse(e, MSG_ERROR_ARGUMENT, request->format);
    if (count == 0u || (!fits && count > 1u)) return refuse(e, MSG_ERROR_ARGUMENT, count);
    if (!inside(request->first, count, buffer_bytes / input_bytes)) return refuse(e, MSG_ERROR_ADDRESS, request->first);
    job.input = (const uint8_t *)job.input + request->first * input_bytes;
    for (uint32_t i = 0; i < count; i++) {
        instructions = board_count(infer, &job, request->limit);
        if (job.status != ZOB_OK) return refuse(e, MSG_ERROR_ENGINE, (uint32_t)job.status);
        job.input = (const uint8_t *)job.input + input_bytes;
        if (fits) memcpy(scores, network_scores(), scores_bytes), scores += scores_bytes;
    }
    reply->count = count;
    reply->instructions = instructions;
    return answer(e, (uint32_t)(scores - (uint8_t *)e->reply));
}

static uint16_t do_scores(struct exchange *e) {
    const struct msg_scores_request *const request = e->request;
    const uint32_t first = request->first, count = request->count;
    if (!inside(first, count, network_output_count())) return refuse(e, MSG_ERROR_ADDRESS, first);
    if (count > MOST_TAIL / 4u) return refuse(e, MSG_ERROR_ARGUMENT, count);
    memcpy((uint32_t *)e->reply + 1, network_scores() + first, 4u * count);
    return answer_number(e, count, 4u * count);
}

static uint16_t do_flip(struct exchange *e) {
    const struct msg_flip_request *const request = e->request;
    const uint32_t count = request->count, *const addresses = (const uint32_t *)(request + 1);
    struct msg_flip_done *const done = (struct msg_flip_done *)((uint32_t *)e->reply + 1);
    uint8_t *const image = network_image();
    if (count > MOST_TAIL / sizeof *done) return refuse(e, MSG_ERROR_ARGUMENT, count);
    if (e->request_bytes != sizeof *request + 4u * count) return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
    for (uint32_t i = 0; i < count; i++) {
        if (!network_holds(addresses[i], 1u)) return refuse(e, MSG_ERROR_ADDRESS, i);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *const byte = image + addresses[i] / 8u;
        const uint8_t old = *byte;
        *byte = (uint8_t)(old ^ 1u << addresses[i] % 8u);
        done[i] = (struct msg_flip_done){addresses[i], old, *byte, 0u};
    }
    return answer_number(e, count, count * (uint32_t)sizeof *done);
}

struct range {
    uint32_t first, bits;
};

static uint16_t do_inject(struct exchange *e) {
    const struct msg_inject_request *const request = e->request;
    const struct range *const ranges = (const struct range *)(request + 1), *const end = ranges + request->ranges;
    struct msg_inject_reply *const reply = e->reply;
    uint32_t flips = 0;
    if (request->ranges > MSG_MAX_RANGES) return refuse(e, MSG_ERROR_ARGUMENT, request->ranges);
    if (e->request_bytes != sizeof *request + sizeof *ranges * request->ranges) {
        return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
    }
    for (const struct range *r = ranges; r < end; r++) {
        if (!network_holds(r->first, r->bits)) return refuse(e, MSG_ERROR_ADDRESS, (uint32_t)(r - ranges));
    }
    if (ranges == end) flips = network_inject_all(request->rate_q64, request->seed);
    for (const struct range *r = ranges; r < end; r++) {
        flips += zob_inject(network_image(), r->first, r->bits, request->rate_q64, request->seed);
    }
    reply->flips = flips;
    reply->memory_crc = network_crc();
    return answer(e, sizeof *reply);
}

static uint16_t do_restore(struct exchange *e) {
    network_restore();
    return answer_number(e, network_crc(), 0u);
}

static uint16_t do_read(struct exchange *e) {
    const struct msg_read_request *const request = e->request;
    const uint32_t offset = request->offset, bytes = request->bytes;
    if (!inside(offset, bytes, network_image_bytes())) return refuse(e, MSG_ERROR_ADDRESS, offset);
    if (bytes > MOST_TAIL) return refuse(e, MSG_ERROR_ARGUMENT, bytes);
    memcpy((uint32_t *)e->reply + 1, network_image() + offset, bytes);
    return answer_number(e, bytes, bytes);
}

static uint16_t do_status(struct exchange *e) {
    const zob_health health = network_health();
    struct msg_status_reply *const reply = e->reply;
    reply->memory_crc = network_crc();
    reply->instructions = instructions;
    reply->frames = e->counters.frames;
    reply->bad_frames = e->counters.bad_frames;
    reply->repeats = e->counters.repeats;
    reply->strays = e->counters.strays;
    reply->overruns = board_overruns();
    reply->corrected = health.corrected;
    reply->lost = health.lost;
    reply->boots = board_boots();
    return answer(e, sizeof *reply);
}

static uint16_t do_reset(struct exchange *e) { return answer_number(e, board_boots(), 0u); }

/* Whether `count` bits from `bits` on end the request, all within reach. */
static uint16_t check_bits(struct exchange *e, const struct msg_memory_bit *bits, uint32_t count) {
    const uint32_t before = (uint32_t)((const uint8_t *)bits - (const uint8_t *)e->request);
    if (e->request_bytes - before != count * (uint64_t)sizeof *bits) return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
    for (uint32_t i = 0; i < count; i++) {
        if (!network_reaches(&bits[i])) return refuse(e, MSG_ERROR_ADDRESS, i);
    }
    return 0;
}

/* Invert the bits of a request that lie inside the request itself, or all others. */
static void flip_bits(struct exchange *e, const struct msg_memory_bit *bits, uint32_t count, bool in_request) {
    struct msg_flip_done *const done = (struct msg_flip_done *)((uint32_t *)e->reply + 1);
    const uint8_t *const request = e->request;
    for (uint32_t i = 0; i < count; i++) {
        const struct msg_memory_bit bit = bits[i];
        const uint8_t *const byte = network_byte(bit.address);
        if ((byte >= request && byte < request + e->request_bytes) != in_request) continue;
        const uint8_t old = network_flip(&bit);
        done[i] = (struct msg_flip_done){bit.address, old, (uint8_t)(old ^ 1u << bit.bit), 0u};
    }
}

/* The request lies in the memory it is about: its own bits come last, so that they change no bit still to be inverted. */
static uint16_t do_flip_memory(struct exchange *e) {
    const struct msg_flip_memory_request *const request = e->request;
    const struct msg_memory_bit *const bits = (const struct msg_memory_bit *)(request + 1);
    const uint32_t count = request->count;
    if (count > MOST_TAIL / sizeof(struct msg_flip_done)) return refuse(e, MSG_ERROR_ARGUMENT, count);
    const uint16_t error = check_bits(e, bits, count);
    if (error) return error;
    flip_bits(e, bits, count, false);
    flip_bits(e, bits, count, true);
    return answer_number(e, count, count * (uint32_t)sizeof(struct msg_flip_done));
}

static uint16_t do_read_memory(struct exchange *e) {
    const struct msg_read_memory_request *const request = e->request;
    const uint32_t address = request->address, bytes = request->bytes;
    uint8_t *const to = (uint8_t *)((uint32_t *)e->reply + 1);
    if (bytes == 0u || bytes > MOST_TAIL) return refuse(e, MSG_ERROR_ARGUMENT, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        const uint8_t *const byte = network_byte(address + i);
        if (!byte) return refuse(e, MSG_ERROR_ADDRESS, i);
        to[i] = *byte;
    }
    return answer_number(e, bytes, bytes);
}

static uint16_t do_arm(struct exchange *e) {
    const struct msg_arm_request *const request = e->request;
    const struct msg_memory_bit *const bits = (const struct msg_memory_bit *)(request + 1);
    const uint16_t error = check_bits(e, bits, request->count);
    if (error) return error;
    if (!network_arm(request->op, request->every != 0u, bits, request->count)) {
        return refuse(e, MSG_ERROR_ARGUMENT, request->op);
    }
    return answer_number(e, request->count, 0u);
}

static const struct {
    uint8_t type;
    bool has_tail;
    uint16_t record_bytes;
    uint16_t (*carry_out)(struct exchange *);
} commands[] = {
    {MSG_HELLO, false, sizeof(struct msg_hello_request), do_hello},
    {MSG_PUT_INPUTS, true, sizeof(struct msg_put_inputs_request), do_put_inputs},
    {MSG_RUN, false, sizeof(struct msg_run_request), do_run},
    {MSG_FLIP, true, sizeof(struct msg_flip_request), do_flip},
    {MSG_INJECT, true, sizeof(struct msg_inject_request), do_inject},
    {MSG_RESTORE, false, 0u, do_restore},
    {MSG_READ, false, sizeof(struct msg_read_request), do_read},
    {MSG_STATUS, false, 0u, do_status},
    {MSG_RESET, false, 0u, do_reset},
    {MSG_SCORES, false, sizeof(struct msg_scores_request), do_scores},
    {MSG_FLIP_MEMORY, true, sizeof(struct msg_flip_memory_request), do_flip_memory},
    {MSG_READ_MEMORY, false, sizeof(struct msg_read_memory_request), do_read_memory},
    {MSG_ARM, true, sizeof(struct msg_arm_request), do_arm},
};

uint16_t commands_do(struct exchange *e) {
    for (uint32_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (commands[i].type != e->type) continue;
        if (e->request_bytes < commands[i].record_bytes ||
            (!commands[i].has_tail && e->request_bytes != commands[i].record_bytes)) {
            return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
        }
        return commands[i].carry_out(e);
    }
    return refuse(e, MSG_ERROR_TYPE, e->type);
}
