/* The few registers of the Cortex-M system space that the firmware uses. */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define NVIC_ENABLE(irq) (REGISTER(0xE000E100u + 4u * ((irq) / 32u)) = 1u << ((irq) % 32u))
#define NVIC_DISABLE(irq) (REGISTER(0xE000E180u + 4u * ((irq) / 32u)) = 1u << ((irq) % 32u))
#define NVIC_PEND(irq) (REGISTER(0xE000E200u + 4u * ((irq) / 32u)) = 1u << ((irq) % 32u))

#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_CSR_RUN 7u /* on, with its interrupt, at the clock of the core */
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define SYST_MAX 0xFFFFFFu

#define SCB_VTOR REGISTER(0xE000ED08u)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define SCB_AIRCR_RESET 0x05FA0004u
#define SCB_CFSR REGISTER(0xE000ED28u)
#define SCB_CFSR_MMARVALID (1u << 7)
#define SCB_MMFAR REGISTER(0xE000ED34u)
#define SCB_BFAR REGISTER(0xE000ED38u)
#define SCB_CPACR REGISTER(0xE000ED88u)
#define SCB_CPACR_FPU (0xFu << 20)

#define DCB_DEMCR REGISTER(0xE000EDFCu)
#define DCB_DEMCR_TRCENA (1u << 24)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CTRL_CYCCNTENA 1u
#define DWT_CYCCNT REGISTER(0xE0001004u)
#define DWT_LAR REGISTER(0xE0001FB0u)
#define DWT_LAR_KEY 0xC5ACCE55u

/* A peripheral answers some cycles after its clock has been switched on. */
static inline void clock_settle(void) { __asm volatile("dsb\n nop\n nop\n nop\n nop" ::: "memory"); }

static inline void interrupts_off(void) { __asm volatile("cpsid i" ::: "memory"); }
static inline void interrupts_on(void) { __asm volatile("cpsie i\n isb" ::: "memory"); }
static inline void wait_for_interrupt(void) { __asm volatile("dsb\n wfi" ::: "memory"); }

#endif
