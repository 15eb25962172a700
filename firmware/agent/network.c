#include "network.h"

#include <string.h>

#include "board.h"
#include "model.h"
#include "zob_fault.h"

static uint8_t image[MODEL_IMAGE_BYTES] __attribute__((section(".parameters"), aligned(8)));
static uint8_t arena[MODEL_ARENA_BYTES] __attribute__((section(".arena"), aligned(8)));
/* Nothing uses this array; it makes sure that the memory left for inputs takes at least one. */
static uint8_t one_input[MODEL_INPUT_COUNT] __attribute__((section(".inputs"), aligned(8), used));
static float scores[MODEL_OUTPUT_COUNT];
static zob_model model;
static zob_status loaded;
#ifdef MODEL_PLAN_IN_RAM
static uint8_t plan[sizeof model_plan] __attribute__((aligned(8)));
#else
#define plan model_plan
#endif
static struct {
    struct msg_memory_bit bits[NETWORK_MAX_ARMED];
    uint32_t count, op;
    bool every;
} armed;

void network_init(void) {
    network_restore();
    loaded = zob_adopt(&model, plan, sizeof model_plan, MODEL_PLAN_CRC);
}

uint8_t *network_image(void) { return image; }

uint32_t network_image_bytes(void) { return sizeof image; }

uint32_t network_arena_bytes(void) { return sizeof arena; }

uint32_t network_input_count(void) { return MODEL_INPUT_COUNT; }

uint32_t network_output_count(void) { return MODEL_OUTPUT_COUNT; }

const void *network_arena(void) { return arena; }

const void *network_plan(void) { return plan; }

bool network_plan_in_ram(void) { return (const void *)plan != (const void *)model_plan; }

static void fire(void) {
    for (uint32_t i = 0; i < armed.count; i++) (void)network_flip(&armed.bits[i]);
    if (!armed.every) armed.count = 0;
}

static __attribute__((noinline)) zob_status run_ops(uint32_t first, uint32_t end) {
    return zob_run_ops(&model, image, sizeof image, arena, sizeof arena, first, end);
}

/* zob_run with a stop. */
static zob_status run_armed(const void *input, uint32_t format) {
    const uint32_t stop = armed.op;
    zob_status status = zob_put_input(&model, input, format, arena, sizeof arena);
    if (status == ZOB_OK) status = run_ops(0u, stop);
    if (status != ZOB_OK) return status;
    fire();
    status = run_ops(stop, zob_op_count(&model));
    return status == ZOB_OK ? zob_get_scores(&model, arena, sizeof arena, scores) : status;
}

zob_status network_run(const void *input, uint32_t format) {
    if (loaded != ZOB_OK) return loaded;
    if (armed.count) return run_armed(input, format);
    return zob_run(&model, image, sizeof image, input, format, arena, sizeof arena, scores);
}

bool network_arm(uint32_t op, bool every, const void *bits, uint32_t count) {
    if (loaded != ZOB_OK || op >= zob_op_count(&model) || model.ops[op].flags & ZOB_FLAG_FUSED) return false;
    memcpy(armed.bits, bits, count * sizeof *armed.bits);
    armed.count = count;
    armed.op = op;
    armed.every = every;
    return true;
}

/* The byte of a memory that lies at an address; null where it does not lie there. */
static uint8_t *within(void *memory, uint32_t bytes, uint32_t address) {
    const uint32_t offset = address - (uint32_t)(uintptr_t)memory;
    return offset < bytes ? (uint8_t *)memory + offset : NULL;
}

uint8_t *network_byte(uint32_t address) {
    uint32_t ram_bytes;
    uint8_t *const ram = board_memory(&ram_bytes);
    uint8_t *byte = within(ram, ram_bytes, address);
    if (!byte) byte = within(image, sizeof image, address);
    if (!byte) byte = within(arena, sizeof arena, address);
#ifdef MODEL_PLAN_IN_RAM
    if (!byte) byte = within(plan, sizeof plan, address);
#endif
    return byte;
}

bool network_reaches(const struct msg_memory_bit *bit) { return bit->bit <= 7u && network_byte(bit->address); }

uint8_t network_flip(const struct msg_memory_bit *bit) {
    volatile uint8_t *const byte = network_byte(bit->address);
    const uint8_t before = *byte;
    *byte = (uint8_t)(before ^ 1u << bit->bit);
    return before;
}

const float *network_scores(void) { return scores; }

void network_restore(void) {
    memcpy(image, &model_image, sizeof image);
#ifdef MODEL_PLAN_IN_RAM
    memcpy(plan, model_plan, sizeof plan);
#endif
    armed.count = 0;
}

uint32_t network_crc(void) { return zob_crc32(0u, image, sizeof image); }

uint32_t network_plan_crc(void) { return zob_crc32(0u, model_plan, sizeof model_plan); }

uint32_t network_flash_crc(void) { return zob_crc32(0u, &model_image, sizeof model_image); }

static uint32_t parameters(void) { return loaded == ZOB_OK ? model.header->parameters : 0u; }

bool network_holds(uint32_t first, uint32_t bits) {
    for (uint32_t i = 0; i < parameters(); i++) {
        const struct zob_parameter *p = &model.parameters[i];
        const uint32_t begin = 8u * p->offset, size = (uint32_t)zob_stored_bits(p);
        if (first >= begin && first - begin < size) return bits <= size - (first - begin);
    }
    return false;
}

zob_health network_health(void) {
    zob_health health = {0u, 0u};
    if (loaded == ZOB_OK) (void)zob_check(&model, image, sizeof image, &health);
    return health;
}

uint32_t network_inject_all(uint64_t rate_q64, uint64_t seed) {
    uint32_t flips = 0;
    for (uint32_t i = 0; i < parameters(); i++) {
        const struct zob_parameter *p = &model.parameters[i];
        flips += zob_inject(image, 8u * p->offset, (uint32_t)zob_stored_bits(p), rate_q64, seed);
    }
    return flips;
}
