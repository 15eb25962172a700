/* The model loader: a plan is refused or runs, whatever the image holds, in buffers of exactly the sizes it asks for.
 *
 * The input is the plan; what is in image, inputs and arena follows from its CRC-32. Mutations are of whole words as
 * often as of bytes, since a plan is made of words. */
#include <string.h>

#include "fuzz.h"
#include "zob.h"
#include "zob_fault.h"

#define MOST_BYTES (1u << 16) /* of arena and image: a larger one only takes longer */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

static uint32_t random_word(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static void begin(uint32_t seed) { state = 88172645463325252u + seed; }

static uint32_t interesting(uint32_t old) {
    static const uint32_t values[] = {0u, 1u, 2u, 3u, 8u, 16u, 31u, 33u, 255u, 65535u, 65536u, 0x7FFFFFFFu, 0xFFFFFFFFu};
    switch (random_word() % 4u) {
    case 0: return old ^ ((uint32_t)1 << (random_word() % 32u));
    case 1: return old + random_word() % 5u - 2u;
    case 2: return values[random_word() % (sizeof values / sizeof *values)];
    default: return random_word();
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed) {
    begin(seed);
    if (size < 4u || random_word() % 2u) return LLVMFuzzerMutate(data, size, most);
    for (uint32_t n = 1u + random_word() % 3u; n > 0u; n--) {
        uint8_t *at = data + 4u * (random_word() % (size / 4u));
        uint32_t word;
        memcpy(&word, at, sizeof word);
        word = interesting(word);
        memcpy(at, &word, sizeof word);
    }
    return size;
}

static void *filled(size_t bytes) {
    uint8_t *p = malloc(bytes ? bytes : 1u);
    MUST(p);
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)random_word();
    return p;
}

/* The same inference in steps at random boundaries gives the same bits; with any bytes in the arena nothing breaks. */
static void run_in_steps(const zob_model *m, const void *image, const void *input, void *arena, const void *expected) {
    const uint32_t image_bytes = zob_image_bytes(m), arena_bytes = zob_arena_bytes(m), ops = zob_op_count(m);
    const size_t scores_bytes = 4u * (size_t)zob_output_count(m);
    float *scores = filled(scores_bytes);
    uint32_t first = 0, end;
    MUST(!zob_put_input(m, input, ZOB_INPUT_UINT8, arena, arena_bytes));
    for (; first < ops; first = end) {
        end = first + 1u + random_word() % (ops - first);
        while (zob_run_ops(m, image, image_bytes, arena, arena_bytes, first, end) != ZOB_OK) MUST(end++ < ops);
    }
    MUST(!zob_get_scores(m, arena, arena_bytes, scores) && !memcmp(scores, expected, scores_bytes));
    for (uint32_t i = 0; i < arena_bytes; i++) ((uint8_t *)arena)[i] = (uint8_t)random_word();
    first = random_word() % (ops + 2u);
    end = random_word() % (ops + 2u);
    (void)zob_run_ops(m, image, image_bytes, arena, arena_bytes, first, end);
    free(scores);
}

static void run(const zob_model *m) {
    const uint32_t image_bytes = zob_image_bytes(m), arena_bytes = zob_arena_bytes(m);
    void *image = filled(image_bytes), *arena = filled(arena_bytes);
    void *input = filled(4u * (size_t)zob_input_count(m)), *scores = filled(4u * (size_t)zob_output_count(m));
    for (uint32_t format = 0; format < 2u; format++) {
        MUST(!zob_run(m, image, image_bytes, input, format, arena, arena_bytes, scores));
    }
    run_in_steps(m, image, input, arena, scores);
    free(image);
    free(arena);
    free(input);
    free(scores);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    zob_model m;
    uint32_t where;
    uint8_t *plan = malloc(size ? size : 1u);
    MUST(plan);
    if (size) memcpy(plan, data, size);
    begin(zob_crc32(0u, plan, (uint32_t)size));
    if (zob_load(&m, plan, (uint32_t)size, &where) == ZOB_OK && zob_arena_bytes(&m) <= MOST_BYTES &&
        zob_image_bytes(&m) <= MOST_BYTES) {
        run(&m);
    }
    free(plan);
    return 0;
}
