/* The memory of the network: its plan and image in flash, the image under attack and the working memory in SRAM. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "messages.h"
#include "zob.h"

/* Load the plan and restore the image; called once, before everything else here. */
void network_init(void);

/* The image in SRAM, network_image_bytes long and aligned to 8 bytes. */
uint8_t *network_image(void);
uint32_t network_image_bytes(void);

/* Sizes of the network. */
uint32_t network_arena_bytes(void);
const void *network_arena(void);
const void *network_plan(void);
bool network_plan_in_ram(void); /* model.h says so, by MODEL_PLAN_IN_RAM */
uint32_t network_input_count(void);
uint32_t network_output_count(void);

/* One inference with the image in SRAM: `input` and `format` as zob_run takes them. What is armed happens in it. */
zob_status network_run(const void *input, uint32_t format);

/* Most bits that can be armed. */
#define NETWORK_MAX_ARMED ((MSG_MAX_PAYLOAD - (uint32_t)sizeof(struct msg_arm_request)) / (uint32_t)sizeof(struct msg_memory_bit))

/* Arm flips: `count` records memory_bit, in any alignment, that are inverted when operation `op` begins, in the next
 * inference or in every one. False, and nothing changed, where an inference cannot be stopped before `op`. */
bool network_arm(uint32_t op, bool every, const void *bits, uint32_t count);

/* The byte at an address in SRAM or in the network's memory; null for any other address. */
uint8_t *network_byte(uint32_t address);

/* True when a bit lies there. */
bool network_reaches(const struct msg_memory_bit *bit);

/* Invert a bit that network_reaches. Returns the byte before. */
uint8_t network_flip(const struct msg_memory_bit *bit);

/* The scores of the last inference, network_output_count of them. */
const float *network_scores(void);

/* Copy the image from flash to SRAM, and the plan if it lies there; disarm. */
void network_restore(void);

/* CRC-32 of the image in SRAM, now. */
uint32_t network_crc(void);

/* CRC-32s of the plan and of the image in flash. */
uint32_t network_plan_crc(void);
uint32_t network_flash_crc(void);

/* True when bits [first, first + bits) lie inside one parameter; the bits that fill up its rows belong to it. */
bool network_holds(uint32_t first, uint32_t bits);

/* How the redundant bits of the image in SRAM fare. */
zob_health network_health(void);

/* Flip every bit of every parameter with a probability, as zob_inject does. Returns how many flipped. */
uint32_t network_inject_all(uint64_t rate_q64, uint64_t seed);

#endif
