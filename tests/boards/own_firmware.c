/* Somebody's own firmware on an MPS2 board: the engine and a network, no serial line, no agent, no injector. */
#include <string.h>

#include "model.h"
#include "zob.h"

extern uint32_t stack_top[], bss_begin[], bss_end[];
static uint8_t image[sizeof model_image] __attribute__((aligned(8)));
static uint64_t arena[MODEL_ARENA_BYTES / 8u + 1u];
static uint8_t pixels[MODEL_INPUT_COUNT];
static float scores[MODEL_OUTPUT_COUNT];
volatile uint32_t classified;

void reset(void);
void fault(void);

void fault(void) {
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault};

void reset(void) {
    zob_model model;
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* the floating-point unit */
    __asm volatile("dsb\n isb" ::: "memory");
    memset(bss_begin, 0, (size_t)((char *)bss_end - (char *)bss_begin));
    memcpy(image, &model_image, sizeof image);
    if (zob_load(&model, model_plan, sizeof model_plan, 0) != ZOB_OK) fault();
    for (;;) {
        for (uint32_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(classified * 31u + i);
        zob_run(&model, image, sizeof image, pixels, ZOB_INPUT_UINT8, arena, sizeof arena, scores);
        classified++;
    }
}
