/* Inferences from standard input to standard output, in buffers of exactly the sizes that the engine asks for: built with
 * sanitizers, it fails where the engine touches anything else. A job is its record, plan, image and inputs; what comes
 * back is corrected and lost cells of the image, then the scores of every input. */
#include <stdio.h>
#include <stdlib.h>

#include "zob.h"

struct job {
    uint32_t plan_bytes, image_bytes, inputs, format;
};

#define MUST(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

static void *room(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1u);
    MUST(memory);
    return memory;
}

static void *take(size_t bytes) {
    void *memory = room(bytes);
    MUST(fread(memory, 1, bytes, stdin) == bytes);
    return memory;
}

static void infer(const zob_model *m, const void *image, const struct job *job) {
    const size_t input_bytes = (size_t)zob_input_count(m) * (job->format == ZOB_INPUT_FLOAT32 ? 4u : 1u);
    const size_t scores_bytes = 4u * (size_t)zob_output_count(m);
    void *input = take(input_bytes), *arena = room(zob_arena_bytes(m)), *scores = room(scores_bytes);
    MUST(zob_run(m, image, job->image_bytes, input, job->format, arena, zob_arena_bytes(m), scores) == ZOB_OK);
    MUST(fwrite(scores, 1, scores_bytes, stdout) == scores_bytes);
    free(input);
    free(arena);
    free(scores);
}

int main(void) {
    struct job job;
    while (fread(&job, sizeof job, 1, stdin) == 1) {
        void *plan = take(job.plan_bytes), *image = take(job.image_bytes);
        zob_model model;
        zob_health health;
        MUST(zob_load(&model, plan, job.plan_bytes, NULL) == ZOB_OK);
        MUST(zob_check(&model, image, job.image_bytes, &health) == ZOB_OK);
        MUST(fwrite(&health, sizeof health, 1, stdout) == 1);
        for (uint32_t i = 0; i < job.inputs; i++) infer(&model, image, &job);
        free(plan);
        free(image);
    }
    return 0;
}
