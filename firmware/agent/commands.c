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

/* The request's record; its size has been checked. Returns what follows it. */
static const uint8_t *take(const struct exchange *e, void *record, uint32_t bytes) {
    memcpy(record, e->request, bytes);
    return e->request + bytes;
}

/* The reply is a record and `tail` bytes that lie behind it already. */
static uint16_t answer(struct exchange *e, const void *record, uint32_t bytes, uint32_t tail) {
    memcpy(e->reply, record, bytes);
    e->reply_bytes = bytes + tail;
    return 0;
}

/* True when [first, first + count) lies inside [0, size). */
static bool inside(uint64_t first, uint64_t count, uint64_t size) { return first <= size && count <= size - first; }

/* What of the protocol this firmware can do. */
static uint32_t capabilities(void) {
    const uint32_t can = MSG_CAN_MEMORY | MSG_CAN_ARM | MSG_CAN_WATCHDOG;
    return network_plan_in_ram() ? can | MSG_CAN_PLAN_IN_RAM : can;
}

static uint32_t address_of(const void *memory) { return (uint32_t)(uintptr_t)memory; }

static uint16_t do_hello(struct exchange *e) {
    struct msg_hello_request request;
    struct msg_hello_reply reply = {
        .minor = MSG_PROTOCOL_MINOR,
        .generator = MSG_GENERATOR_VERSION,
        .capabilities = capabilities(),
        .max_payload = MSG_MAX_PAYLOAD,
        .window = board_window(),
        .plan_crc = network_plan_crc(),
        .image_crc = network_flash_crc(),
        .image_bytes = network_image_bytes(),
        .memory_crc = network_crc(),
        .memory_address = address_of(network_image()),
        .plan_address = address_of(network_plan()),
        .arena_address = address_of(network_arena()),
        .arena_bytes = network_arena_bytes(),
        .input_count = network_input_count(),
        .output_count = network_output_count(),
        .clock_hz = BOARD_CLOCK_HZ,
        .boots = board_boots(),
        .counter = board_counter(),
        .board = BOARD_NAME,
    };
    take(e, &request, sizeof request);
    reply.nonce = request.nonce;
    reply.ram_address = address_of(board_memory(&reply.ram_bytes));
    (void)board_input_buffer(&reply.input_bytes);
    return answer(e, &reply, sizeof reply, 0u);
}

static uint16_t do_put_inputs(struct exchange *e) {
    struct msg_put_inputs_request request;
    struct msg_put_inputs_reply reply;
    uint32_t size;
    uint8_t *const buffer = board_input_buffer(&size);
    const uint8_t *const tail = take(e, &request, sizeof request);
    reply.bytes = e->request_bytes - (uint32_t)sizeof request;
    if (!inside(request.offset, reply.bytes, size)) return refuse(e, MSG_ERROR_ADDRESS, request.offset);
    memcpy(buffer + request.offset, tail, reply.bytes);
    return answer(e, &reply, sizeof reply, 0u);
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
    struct msg_run_request request;
    struct msg_run_reply reply;
    uint32_t buffer_bytes, at = sizeof reply;
    const uint8_t *const buffer = board_input_buffer(&buffer_bytes);
    const uint32_t scores_bytes = 4u * network_output_count();
    take(e, &request, sizeof request);
    const uint32_t input_bytes = network_input_count() * (request.format == ZOB_INPUT_FLOAT32 ? 4u : 1u);
    const bool fits = (uint64_t)request.count * scores_bytes <= MSG_MAX_PAYLOAD - sizeof reply;
    if (request.format > ZOB_INPUT_UINT8) return refuse(e, MSG_ERROR_ARGUMENT, request.format);
    if (request.count == 0u || (!fits && request.count > 1u)) return refuse(e, MSG_ERROR_ARGUMENT, request.count);
    if (!inside(request.first, request.count, buffer_bytes / input_bytes)) {
        return refuse(e, MSG_ERROR_ADDRESS, request.first);
    }
    for (uint32_t i = 0; i < request.count; i++) {
        struct inference job = {buffer + (request.first + i) * input_bytes, request.format, ZOB_OK};
        instructions = board_count(infer, &job, request.limit);
        if (job.status != ZOB_OK) return refuse(e, MSG_ERROR_ENGINE, (uint32_t)job.status);
        if (fits) {
            memcpy(e->reply + at, network_scores(), scores_bytes);
            at += scores_bytes;
        }
    }
    reply.count = request.count;
    reply.instructions = instructions;
    return answer(e, &reply, sizeof reply, at - (uint32_t)sizeof reply);
}

static uint16_t do_scores(struct exchange *e) {
    struct msg_scores_request request;
    struct msg_scores_reply reply;
    take(e, &request, sizeof request);
    if (!inside(request.first, request.count, network_output_count())) {
        return refuse(e, MSG_ERROR_ADDRESS, request.first);
    }
    if (request.count > (MSG_MAX_PAYLOAD - sizeof reply) / 4u) return refuse(e, MSG_ERROR_ARGUMENT, request.count);
    reply.count = request.count;
    memcpy(e->reply + sizeof reply, network_scores() + request.first, 4u * request.count);
    return answer(e, &reply, sizeof reply, 4u * request.count);
}

static uint16_t do_flip(struct exchange *e) {
    struct msg_flip_request request;
    struct msg_flip_reply reply;
    const uint8_t *const tail = take(e, &request, sizeof request);
    uint8_t *const image = network_image();
    uint32_t address;
    if (request.count > (MSG_MAX_PAYLOAD - sizeof reply) / sizeof(struct msg_flip_done)) {
        return refuse(e, MSG_ERROR_ARGUMENT, request.count);
    }
    if (e->request_bytes != sizeof request + 4u * request.count) return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
    for (uint32_t i = 0; i < request.count; i++) {
        memcpy(&address, tail + 4u * i, sizeof address);
        if (!network_holds(address, 1u)) return refuse(e, MSG_ERROR_ADDRESS, i);
    }
    for (uint32_t i = 0; i < request.count; i++) {
        struct msg_flip_done done = {0};
        memcpy(&address, tail + 4u * i, sizeof address);
        done.address = address;
        done.old = image[address / 8u];
        image[address / 8u] ^= (uint8_t)(1u << (address % 8u));
        done.new = image[address / 8u];
        memcpy(e->reply + sizeof reply + i * sizeof done, &done, sizeof done);
    }
    reply.count = request.count;
    return answer(e, &reply, sizeof reply, request.count * (uint32_t)sizeof(struct msg_flip_done));
}

static uint16_t do_inject(struct exchange *e) {
    struct msg_inject_request request;
    struct msg_inject_reply reply = {0};
    const uint8_t *const tail = take(e, &request, sizeof request);
    uint32_t range[2];
    if (request.ranges > MSG_MAX_RANGES) return refuse(e, MSG_ERROR_ARGUMENT, request.ranges);
    if (e->request_bytes != sizeof request + sizeof range * request.ranges) {
        return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
    }
    for (uint32_t i = 0; i < request.ranges; i++) {
        memcpy(range, tail + i * sizeof range, sizeof range);
        if (!network_holds(range[0], range[1])) return refuse(e, MSG_ERROR_ADDRESS, i);
    }
    if (request.ranges == 0u) reply.flips = network_inject_all(request.rate_q64, request.seed);
    for (uint32_t i = 0; i < request.ranges; i++) {
        memcpy(range, tail + i * sizeof range, sizeof range);
        reply.flips += zob_inject(network_image(), range[0], range[1], request.rate_q64, request.seed);
    }
    reply.memory_crc = network_crc();
    return answer(e, &reply, sizeof reply, 0u);
}

static uint16_t do_restore(struct exchange *e) {
    struct msg_restore_reply reply;
    network_restore();
    reply.memory_crc = network_crc();
    return answer(e, &reply, sizeof reply, 0u);
}

static uint16_t do_read(struct exchange *e) {
    struct msg_read_request request;
    struct msg_read_reply reply;
    take(e, &request, sizeof request);
    if (!inside(request.offset, request.bytes, network_image_bytes())) {
        return refuse(e, MSG_ERROR_ADDRESS, request.offset);
    }
    if (request.bytes > MSG_MAX_PAYLOAD - sizeof reply) return refuse(e, MSG_ERROR_ARGUMENT, request.bytes);
    reply.bytes = request.bytes;
    memcpy(e->reply + sizeof reply, network_image() + request.offset, request.bytes);
    return answer(e, &reply, sizeof reply, request.bytes);
}

static uint16_t do_status(struct exchange *e) {
    const zob_health health = network_health();
    const struct msg_status_reply reply = {
        .memory_crc = network_crc(),
        .instructions = instructions,
        .frames = e->counters.frames,
        .bad_frames = e->counters.bad_frames,
        .repeats = e->counters.repeats,
        .strays = e->counters.strays,
        .overruns = board_overruns(),
        .corrected = health.corrected,
        .lost = health.lost,
        .boots = board_boots(),
    };
    return answer(e, &reply, sizeof reply, 0u);
}

static uint16_t do_reset(struct exchange *e) {
    const struct msg_reset_reply reply = {.boots = board_boots()};
    return answer(e, &reply, sizeof reply, 0u);
}

/* Bit number i of those behind a record. */
static struct msg_memory_bit bit_of(const struct exchange *e, uint32_t record_bytes, uint32_t i) {
    struct msg_memory_bit bit;
    memcpy(&bit, e->request + record_bytes + i * sizeof bit, sizeof bit);
    return bit;
}

/* Whether `count` bits follow a record, all within reach. */
static uint16_t check_bits(struct exchange *e, uint32_t record_bytes, uint32_t count) {
    if (e->request_bytes - record_bytes != count * (uint64_t)sizeof(struct msg_memory_bit)) {
        return refuse(e, MSG_ERROR_LENGTH, e->request_bytes);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct msg_memory_bit bit = bit_of(e, record_bytes, i);
        if (!network_reaches(&bit)) return refuse(e, MSG_ERROR_ADDRESS, i);
    }
    return 0;
}

/* Invert the bits behind a record that lie inside the request itself, or all others. */
static void flip_bits(struct exchange *e, uint32_t record_bytes, uint32_t count, bool in_request) {
    for (uint32_t i = 0; i < count; i++) {
        const struct msg_memory_bit bit = bit_of(e, record_bytes, i);
        const uint8_t *const byte = network_byte(bit.address);
        if ((byte >= e->request && byte < e->request + e->request_bytes) != in_request) continue;
        struct msg_flip_done done = {.address = bit.address, .old = network_flip(&bit)};
        done.new = (uint8_t)(done.old ^ 1u << bit.bit);
        memcpy(e->reply + sizeof(struct msg_flip_memory_reply) + i * sizeof done, &done, sizeof done);
    }
}

/* The request lies in the memory it is about: its own bits come last, so that they change no bit still to be inverted. */
static uint16_t do_flip_memory(struct exchange *e) {
    struct msg_flip_memory_request request;
    struct msg_flip_memory_reply reply;
    take(e, &request, sizeof request);
    if (request.count > (MSG_MAX_PAYLOAD - sizeof reply) / sizeof(struct msg_flip_done)) {
        return refuse(e, MSG_ERROR_ARGUMENT, request.count);
    }
    const uint16_t error = check_bits(e, sizeof request, request.count);
    if (error) return error;
    flip_bits(e, sizeof request, request.count, false);
    flip_bits(e, sizeof request, request.count, true);
    reply.count = request.count;
    return answer(e, &reply, sizeof reply, request.count * (uint32_t)sizeof(struct msg_flip_done));
}

static uint16_t do_read_memory(struct exchange *e) {
    struct msg_read_memory_request request;
    struct msg_read_memory_reply reply;
    take(e, &request, sizeof request);
    if (request.bytes == 0u || request.bytes > MSG_MAX_PAYLOAD - sizeof reply) {
        return refuse(e, MSG_ERROR_ARGUMENT, request.bytes);
    }
    for (uint32_t i = 0; i < request.bytes; i++) {
        const uint8_t *const byte = network_byte(request.address + i);
        if (!byte) return refuse(e, MSG_ERROR_ADDRESS, i);
        e->reply[sizeof reply + i] = *byte;
    }
    reply.bytes = request.bytes;
    return answer(e, &reply, sizeof reply, request.bytes);
}

static uint16_t do_arm(struct exchange *e) {
    struct msg_arm_request request;
    struct msg_arm_reply reply;
    take(e, &request, sizeof request);
    const uint16_t error = check_bits(e, sizeof request, request.count);
    if (error) return error;
    if (!network_arm(request.op, request.every != 0u, e->request + sizeof request, request.count)) {
        return refuse(e, MSG_ERROR_ARGUMENT, request.op);
    }
    reply.count = request.count;
    return answer(e, &reply, sizeof reply, 0u);
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
