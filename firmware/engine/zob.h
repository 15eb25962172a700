/* zobnn-edge inference engine: runs a plan over a parameter image, in an arena that the caller provides.
 *
 * C99, no allocation, no global state, no libc but string.h's mem* functions. The same source runs on the host and on
 * Cortex-M and gives bit-identical scores everywhere: every float operation is binary32, rounded to nearest, in the
 * order that docs/spec.md fixes, and must be compiled without contraction (-ffp-contract=off).
 *
 * Use: zob_load once (checks every offset and size of the plan), then zob_run for each image. The parameter image may
 * change between runs in any way whatever (that is what fault injection does): no content of it can make the engine
 * read or write outside the buffers given.
 */
#ifndef ZOB_H
#define ZOB_H

#include <stdint.h>

#include "zob_format.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ZOB_OK = 0,
    ZOB_E_ARGUMENT,   /* a null or misaligned pointer, an unknown input format */
    ZOB_E_MAGIC,      /* not a plan */
    ZOB_E_VERSION,    /* a plan of another format version */
    ZOB_E_LENGTH,     /* lengths and counts do not add up */
    ZOB_E_TENSOR,     /* a tensor record with an impossible kind, size or offset */
    ZOB_E_PARAMETER,  /* a parameter record with an impossible encoding, size or offset */
    ZOB_E_OPCODE,     /* an operation this engine does not know, or was built without */
    ZOB_E_OPERAND,    /* an operation whose tensors or parameters do not exist, or do not fit it */
    ZOB_E_ORDER,      /* an operation that reads what nothing before it wrote, or is fused wrongly */
    ZOB_E_OVERLAP,    /* an operation whose output lies over what it reads */
    ZOB_E_ARENA,      /* an arena smaller than the plan needs */
    ZOB_E_IMAGE,      /* an image whose size is not the plan's */
    ZOB_E_PLAN        /* another plan than was adopted, or a damaged one */
} zob_status;

/* A loaded plan. Fill it with zob_load or zob_adopt; treat the members as private. The plan's bytes are used in place: they must
 * stay, unchanged, as long as the model is used. */
typedef struct {
    const struct zob_plan_header *header;
    const struct zob_tensor *tensors;
    const struct zob_parameter *parameters;
    const struct zob_op *ops;
} zob_model;

/* Check a plan and make it ready. `plan` must be aligned to 4 bytes. On failure `*where` (if not null) is the index of
 * the offending record, and the model must not be used. */
zob_status zob_load(zob_model *model, const void *plan, uint32_t plan_bytes, uint32_t *where);

/* Make a plan ready that zob_load has accepted before it was stored: only its length and its CRC-32 are compared. For
 * firmware with one plan in flash, which need not have the code that checks any. */
zob_status zob_adopt(zob_model *model, const void *plan, uint32_t plan_bytes, uint32_t crc);

/* Sizes of a loaded model. */
uint32_t zob_arena_bytes(const zob_model *model);   /* working memory of one inference */
uint32_t zob_image_bytes(const zob_model *model);   /* parameter image */
uint32_t zob_input_count(const zob_model *model);   /* elements of one input */
uint32_t zob_output_count(const zob_model *model);  /* scores */
uint32_t zob_op_count(const zob_model *model);      /* operations */

/* Bits that a parameter takes in the image, from its first byte on; a plan's fit 32 bits. */
uint64_t zob_stored_bits(const struct zob_parameter *parameter);

/* One inference.
 *   image   parameter image, zob_image_bytes long, aligned to 4 bytes; not written
 *   input   zob_input_count elements, NHWC: float32 (aligned to 4 bytes) or uint8, as `format` (ZOB_INPUT_...) says;
 *           an 8-bit p stands for p * pixel_scale + pixel_offset
 *   arena   working memory, aligned to 8 bytes; its contents before and after mean nothing
 *   scores  zob_output_count floats; a NaN is always the quiet NaN 0x7FC00000
 * Returns ZOB_OK, ZOB_E_ARGUMENT, ZOB_E_IMAGE or ZOB_E_ARENA; scores are not written on failure. */
zob_status zob_run(const zob_model *model, const void *image, uint32_t image_bytes, const void *input, uint32_t format,
                   void *arena, uint32_t arena_bytes, float *scores);

/* zob_run in steps, for callers that run some of the operations again: input into the arena; operations [first, end) on
 * an arena that holds what they read, as the operations before left it; scores out of the arena. Operations that are
 * fused are not parted: zob_run_ops returns ZOB_E_ORDER where `first` or `end` would, or lies beyond the last one. No
 * content of the arena can make the engine read or write outside the buffers given. */
zob_status zob_put_input(const zob_model *model, const void *input, uint32_t format, void *arena, uint32_t arena_bytes);
zob_status zob_run_ops(const zob_model *model, const void *image, uint32_t image_bytes, void *arena,
                       uint32_t arena_bytes, uint32_t first, uint32_t end);
zob_status zob_get_scores(const zob_model *model, const void *arena, uint32_t arena_bytes, float *scores);

/* How redundant bits of an image fare: cells of which some bits are put right whenever they are read, and cells that are
 * known to be wrong and cannot be. */
typedef struct {
    uint32_t corrected, lost;
} zob_health;

/* Look through all redundant bits of an image. Inference corrects them as it reads them and does not count. Returns
 * ZOB_OK, ZOB_E_ARGUMENT or ZOB_E_IMAGE. */
zob_status zob_check(const zob_model *model, const void *image, uint32_t image_bytes, zob_health *health);

/* A short English text for a status. */
const char *zob_status_text(zob_status status);

#ifdef __cplusplus
}
#endif
#endif
