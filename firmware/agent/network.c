#include "network.h"

#include <string.h>

#include "model.h"
#include "zob_fault.h"

static uint8_t image[MODEL_IMAGE_BYTES] __attribute__((section(".parameters"), aligned(8)));
static uint8_t arena[MODEL_ARENA_BYTES] __attribute__((section(".arena"), aligned(8)));
/* Nothing uses this array; it makes sure that the memory left for inputs takes at least one. */
static uint8_t one_input[MODEL_INPUT_COUNT] __attribute__((section(".inputs"), aligned(8), used));
static float scores[MODEL_OUTPUT_COUNT];
static zob_model model;
static zob_status loaded;

void network_init(void) {
    network_restore();
    loaded = zob_load(&model, model_plan, sizeof model_plan, 0);
}

uint8_t *network_image(void) { return image; }

uint32_t network_image_bytes(void) { return sizeof image; }

uint32_t network_arena_bytes(void) { return sizeof arena; }

uint32_t network_input_count(void) { return MODEL_INPUT_COUNT; }

uint32_t network_output_count(void) { return MODEL_OUTPUT_COUNT; }

zob_status network_run(const void *input, uint32_t format) {
    if (loaded != ZOB_OK) return loaded;
    return zob_run(&model, image, sizeof image, input, format, arena, sizeof arena, scores);
}

const float *network_scores(void) { return scores; }

void network_restore(void) { memcpy(image, &model_image, sizeof image); }

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
