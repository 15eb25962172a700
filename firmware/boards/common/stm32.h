/* What the pins of all STM32 but the F1 have in common. */
#ifndef STM32_H
#define STM32_H

#include "cortex_m.h"

/* Connect pin 0 to 15 of the port at `gpio` to an alternate function. */
static inline void stm32_connect(uint32_t gpio, uint32_t pin, uint32_t function) {
    volatile uint32_t *const mode = &REGISTER(gpio);
    volatile uint32_t *const alternate = &REGISTER(gpio + 0x20u + 4u * (pin / 8u));
    *alternate = (*alternate & ~(0xFu << (4u * (pin % 8u)))) | function << (4u * (pin % 8u));
    *mode = (*mode & ~(3u << (2u * pin))) | 2u << (2u * pin);
}

#endif
