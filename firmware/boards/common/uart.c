#include "uart.h"

#include "board.h"
#include "cortex_m.h"

#define RING_BYTES 1024u /* a power of two */
#define BURST 16u        /* bytes an interrupt takes at most: a sender without pacing must not hold it forever */

static struct {
    volatile uint8_t bytes[RING_BYTES];
    volatile uint32_t head, tail; /* counters of bytes in and out; head - tail bytes wait */
} ring;
static volatile bool masked; /* the interrupt is off because the ring is full */
static volatile uint32_t overruns;
static uint32_t irq;

void uart_init(uint32_t base, uint32_t number, uint32_t divisor) {
    irq = number;
    port_init(base, divisor);
    NVIC_ENABLE(irq);
    interrupts_on();
}

/* A byte for which the ring has no room stays in the port: an emulator then holds the rest back, a real one overruns,
 * and either way the ring is not corrupted. */
void uart_interrupt(void) {
    port_acknowledge(); /* first: acknowledging last would wipe out a byte that comes in between */
    for (uint32_t n = 0; n < BURST; n++) {
        uint8_t byte;
        if (ring.head - ring.tail == RING_BYTES) {
            masked = true;
            NVIC_DISABLE(irq);
            return;
        }
        if (port_overrun()) overruns++;
        if (!port_receive(&byte)) return;
        ring.bytes[ring.head % RING_BYTES] = byte;
        ring.head++;
    }
}

bool board_read(uint8_t *byte) {
    if (ring.head == ring.tail) return false;
    *byte = ring.bytes[ring.tail % RING_BYTES];
    ring.tail++;
    if (masked) {
        masked = false;
        NVIC_ENABLE(irq);
    }
    return true;
}

void board_wait(void) {
    interrupts_off(); /* a byte between the look and the sleep would be slept over; wfi wakes up all the same */
    if (ring.head == ring.tail) wait_for_interrupt();
    interrupts_on();
}

void board_write(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) port_send(bytes[i]);
}

uint32_t board_overruns(void) { return overruns; }

void uart_flush(void) { port_flush(); }
