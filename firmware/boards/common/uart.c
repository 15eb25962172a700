#include "uart.h"

#include "board.h"
#include "cortex_m.h"
#include "messages.h"

#define RING_BYTES (MSG_MAX_PAYLOAD < 256u ? 256u : 512u) /* a power of two; boards with little RAM have small frames */
#define BURST 16u        /* bytes an interrupt takes at most: a sender without pacing must not hold it forever */

static struct {
    volatile uint8_t bytes[RING_BYTES];
    volatile uint32_t head, tail; /* counters of bytes in and out; head - tail bytes wait */
} ring;
static volatile bool masked; /* the interrupt is off because the ring is full */
static volatile uint32_t overruns;

void uart_init(void) {
    port_init();
    NVIC_ENABLE(BOARD_UART_IRQ);
    interrupts_on();
}

void uart_hold(void) { NVIC_DISABLE(BOARD_UART_IRQ); }

void uart_release(void) {
    if (!masked) NVIC_ENABLE(BOARD_UART_IRQ);
}

/* A byte for which the ring has no room stays in the port: an emulator then holds the rest back, a real one overruns,
 * and either way the ring is not corrupted. An interrupt that may leave a byte behind asks for the next one itself: the
 * port may have been acknowledged for that byte already. */
void uart_interrupt(void) {
    port_acknowledge(); /* first: acknowledging last would wipe out a byte that comes in between */
    for (uint32_t n = 0; n < BURST; n++) {
        uint8_t byte;
        if (ring.head - ring.tail == RING_BYTES) {
            masked = true;
            uart_hold();
            break;
        }
        if (port_overrun()) overruns++;
        if (!port_receive(&byte)) return;
        ring.bytes[ring.head % RING_BYTES] = byte;
        ring.head++;
    }
    NVIC_PEND(BOARD_UART_IRQ);
}

bool board_read(uint8_t *byte) {
    if (ring.head == ring.tail) return false;
    *byte = ring.bytes[ring.tail % RING_BYTES];
    ring.tail++;
    if (masked && ring.head - ring.tail <= RING_BYTES - BURST) {
        masked = false;
        uart_release();
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

/* While the board is busy, the ring takes what the host sends; most requests are of less than 64 bytes. Longer ones are
 * taken out as they come: the board is never busy with one as long as the next one takes. */
uint32_t board_window(void) { return RING_BYTES / 64u; }

uint32_t board_overruns(void) { return overruns; }

void uart_flush(void) { port_flush(); }
