/* What the firmware needs of a board; all that is board-specific is behind these functions.
 *
 * A board is a folder beside this file: `board.toml` describes it, common/ implements this header for every Cortex-M, and
 * a chip_*.c there or a .c file of the board starts the clocks and connects the pins (startup_clocks). The build defines
 * BOARD_NAME (a string) and every number of board.toml: BOARD_CLOCK_HZ (of the core), BOARD_UART_BASE ... */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

/* What board_count counts; the values are those of `counter` in HELLO. */
enum board_counter { BOARD_COUNTS_NOTHING = 0, BOARD_COUNTS_INSTRUCTIONS = 1, BOARD_COUNTS_CYCLES = 2 };

#define BOARD_REGISTERS 17u /* r0 to r12, sp, lr, pc, xpsr */
#define BOARD_WATCHDOG 15u  /* `exception` when an inference was ended because it took too long */

/* Why the board restarted after a fault; `exception` 0 means that it did not. */
struct board_fault {
    uint32_t exception;                  /* number of the exception: 2 NMI, 3 HardFault, ... */
    uint32_t status;                     /* configurable fault status register; 0 where there is none */
    uint32_t address;                    /* the data address that faulted, if `status` says it is valid */
    uint32_t registers[BOARD_REGISTERS]; /* then; what the core stacks is 0 when the stack was gone, too */
};

/* Clocks, serial line and timer. Called once, first; after it bytes are received in the background, and a byte for
 * which there is no room is left in the hardware. */
void board_init(void);

/* The next byte received; false when there is none. */
bool board_read(uint8_t *byte);

/* Sleep until there may be a byte to read; may return early, never late. */
void board_wait(void);

/* Send bytes; returns when the hardware has taken the last one. */
void board_write(const uint8_t *bytes, uint32_t count);

/* Bytes lost by the serial line since boot. */
uint32_t board_overruns(void);

/* Call section(context) with the serial line held off and return how many instructions or cycles it took, those of the
 * measuring itself not counted; 0 when the board cannot count. When it takes much more than `limit` (milliseconds where
 * the board cannot count; 0: no limit) the board records a fault and restarts. */
uint32_t board_count(void (*section)(void *context), void *context, uint32_t limit);

/* What board_count counts here and now: one image runs on a real part and in emulation. */
enum board_counter board_counter(void);

/* Memory that nothing else uses, aligned to 8 bytes, for the inputs. */
uint8_t *board_input_buffer(uint32_t *bytes);

/* All of SRAM; 0 bytes where the board has no memory of its own. */
uint8_t *board_memory(uint32_t *bytes);

/* Requests that may be under way at once without a byte being lost. */
uint32_t board_window(void);

/* Boots since power-on, this one included. */
uint32_t board_boots(void);

/* The fault that ended the run before this one. */
const struct board_fault *board_last_fault(void);

/* Restart as after a reset, when the last byte written has left the serial line. */
void board_reset(void) __attribute__((noreturn));

#endif
