/* Mutate a plan and its image, load it, and run it if it loads, in buffers of exactly the sizes it asks for.
 *     fuzz_plan PLAN ROUNDS SEED
 * Built with AddressSanitizer and UBSan by test_fuzz.py: any access outside a buffer, or undefined behaviour, aborts.
 * Prints how many mutants loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zob.h"

static uint64_t state;

static uint32_t random_word(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

static uint32_t interesting(uint32_t old) {
    static const uint32_t values[] = {0u, 1u, 2u, 3u, 8u, 16u, 31u, 33u, 255u, 65535u, 65536u, 0x7FFFFFFFu, 0xFFFFFFFFu};
    switch (random_word() % 4u) {
    case 0: return old ^ ((uint32_t)1 << (random_word() % 32u));
    case 1: return old + random_word() % 5u - 2u;
    case 2: return values[random_word() % (sizeof values / sizeof *values)];
    default: return random_word();
    }
}

static void *filled(size_t bytes) {
    uint8_t *p = (uint8_t *)malloc(bytes ? bytes : 1u);
    if (!p) exit(2);
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)random_word();
    return p;
}

/* The same inference in steps at random boundaries gives the same bits; with any bytes in the arena nothing breaks. */
static void run_in_steps(const zob_model *m, const void *image, const void *input, void *arena, const void *expected) {
    const uint32_t image_bytes = zob_image_bytes(m), arena_bytes = zob_arena_bytes(m), ops = zob_op_count(m);
    const size_t scores_bytes = 4u * (size_t)zob_output_count(m);
    float *scores = filled(scores_bytes);
    uint32_t first = 0, end;
    if (zob_put_input(m, input, ZOB_INPUT_UINT8, arena, arena_bytes)) exit(4);
    for (; first < ops; first = end) {
        end = first + 1u + random_word() % (ops - first);
        while (zob_run_ops(m, image, image_bytes, arena, arena_bytes, first, end) != ZOB_OK) end++;
    }
    if (zob_get_scores(m, arena, arena_bytes, scores) || memcmp(scores, expected, scores_bytes)) exit(5);
    for (uint32_t i = 0; i < arena_bytes; i++) ((uint8_t *)arena)[i] = (uint8_t)random_word();
    first = random_word() % (ops + 2u);
    end = random_word() % (ops + 2u);
    (void)zob_run_ops(m, image, image_bytes, arena, arena_bytes, first, end);
    free(scores);
}

static int run(const uint32_t *plan, uint32_t bytes) {
    zob_model m;
    uint32_t where;
    void *image, *arena, *input, *scores;
    if (zob_load(&m, plan, bytes, &where) != ZOB_OK) return 0;
    if (zob_arena_bytes(&m) > 1u << 20 || zob_image_bytes(&m) > 1u << 20) return 1;
    image = filled(zob_image_bytes(&m));
    arena = filled(zob_arena_bytes(&m));
    input = filled(4u * (size_t)zob_input_count(&m));
    scores = filled(4u * (size_t)zob_output_count(&m));
    for (uint32_t format = 0; format < 2u; format++) {
        if (zob_run(&m, image, zob_image_bytes(&m), input, format, arena, zob_arena_bytes(&m), (float *)scores)) exit(3);
    }
    run_in_steps(&m, image, input, arena, scores);
    free(image);
    free(arena);
    free(input);
    free(scores);
    return 1;
}

int main(int argc, char **argv) {
    static uint8_t original[1u << 16];
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    const uint32_t bytes = file ? (uint32_t)fread(original, 1, sizeof original, file) : 0u;
    const unsigned long rounds = file ? strtoul(argv[2], NULL, 10) : 0u;
    unsigned long loaded = 0;
    if (!file) return 2;
    state = 88172645463325252u + strtoul(argv[3], NULL, 10);
    for (unsigned long i = 0; i < rounds; i++) {
        uint32_t *plan = (uint32_t *)malloc(bytes);
        if (!plan) return 2;
        memcpy(plan, original, bytes);
        for (uint32_t n = i ? 1u + random_word() % 3u : 0u; n > 0u; n--) {
            uint32_t *word = &plan[random_word() % (bytes / 4u)];
            *word = interesting(*word);
        }
        loaded += (unsigned long)run(plan, bytes);
        free(plan);
    }
    printf("%lu\n", loaded);
    return 0;
}
