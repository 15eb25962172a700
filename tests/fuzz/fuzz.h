/* What the fuzz targets share: failing, and inputs that are scripts.
 *
 * A script is a list of steps: a byte that says what, two for the length (little-endian, cut at the end of the input),
 * and so many bytes. libFuzzer cannot guess a CRC-32; a script has the target compute it. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define MUST(condition)          \
    do {                         \
        if (!(condition)) abort(); \
    } while (0)

struct step {
    uint8_t what;
    const uint8_t *bytes;
    size_t length;
};

/* Take the next step off a script; 0 at its end. */
static inline int next_step(const uint8_t **data, size_t *size, struct step *step) {
    if (*size < 3u) return 0;
    step->what = (*data)[0];
    step->length = (size_t)(*data)[1] | (size_t)(*data)[2] << 8;
    step->bytes = *data + 3;
    if (step->length > *size - 3u) step->length = *size - 3u;
    *data += 3u + step->length;
    *size -= 3u + step->length;
    return 1;
}

#endif
