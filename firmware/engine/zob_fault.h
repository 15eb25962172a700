/* Fault sets from a counter-based generator, and the CRC that shows what memory holds. Shared by host and board, so that
 * one (rate, seed, range) means the same flips everywhere (docs/spec.md, "Faults"). */
#ifndef ZOB_FAULT_H
#define ZOB_FAULT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Philox4x32-10 (Salmon et al., SC 2011): four random words for a counter of four words and a key of two. */
void zob_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Flip every bit of [first_bit, first_bit + bits) of `image` independently with probability rate_q64 / 2^64.
 * Whether a bit flips depends on its address, the rate and the seed only, not on the range it is part of.
 * The caller answers for the range lying inside the image. Returns the number of bits flipped. */
uint32_t zob_inject(uint8_t *image, uint32_t first_bit, uint32_t bits, uint64_t rate_q64, uint64_t seed);

/* Element `index` of a random order of 0 .. count - 1, which `seed` fixes: a Feistel network over two numbers whose ranges
 * multiply to hardly more than `count`, walked until it comes to a number below it (Black and Rogaway, "Ciphers with
 * arbitrary finite domains", CT-RSA 2002). Different indices give different numbers, without any memory of the others.
 * The caller answers for index < count. */
uint32_t zob_permute(uint32_t index, uint32_t count, uint64_t seed);

/* CRC-32 (IEEE 802.3, as zlib's crc32) of `bytes` bytes, continuing `crc` (0 to begin). */
uint32_t zob_crc32(uint32_t crc, const void *data, uint32_t bytes);

#ifdef __cplusplus
}
#endif
#endif
