/* The firmware as a process: stdin and stdout are its serial line, a reset is an exec, and what survives a reset lies in
 * a file without a name that the next process inherits. */
#include "board.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define KEPT "ZOBNN_KEPT" /* environment variable: descriptor of the file */
#define HARD_FAULT 3u
#define PC 15u
#define INPUT_BYTES (1u << 20)

static struct {
    uint32_t boots;
    struct board_fault fault;
} *kept;

static struct board_fault last_fault;
static uint8_t received[4096];
static uint32_t received_bytes, taken;
static uint8_t inputs[INPUT_BYTES] __attribute__((aligned(8)));
static uint8_t signal_stack[16384]; /* the stack may be what is broken */

static void keep(void) {
    const char *inherited = getenv(KEPT);
    const int file = inherited ? atoi(inherited) : memfd_create("kept", 0u);
    char number[16];
    if (file < 0 || ftruncate(file, sizeof *kept) != 0) abort();
    kept = mmap(NULL, sizeof *kept, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (kept == MAP_FAILED) abort();
    snprintf(number, sizeof number, "%d", file);
    setenv(KEPT, number, 1);
}

/* Safe in a signal handler; the handler's signal is not blocked, and so not in the next process either. */
void board_reset(void) {
    execl("/proc/self/exe", BOARD_NAME, (char *)NULL);
    _exit(1);
}

static void record_fault(int number, siginfo_t *info, void *context) {
    const bool at_instruction = number == SIGILL || number == SIGFPE;
    const uint32_t address = number == SIGALRM ? 0u : (uint32_t)(uintptr_t)info->si_addr;
    (void)context;
    kept->fault = (struct board_fault){.exception = number == SIGALRM ? BOARD_WATCHDOG : HARD_FAULT};
    if (at_instruction) kept->fault.registers[PC] = address;
    else kept->fault.address = address;
    board_reset();
}

static void catch_faults(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM};
    const stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    action.sa_sigaction = record_fault;
    sigaltstack(&stack, NULL);
    for (uint32_t i = 0; i < sizeof faults / sizeof *faults; i++) sigaction(faults[i], &action, NULL);
}

void board_init(void) {
    static const struct board_fault none;
    keep();
    catch_faults();
    kept->boots++;
    last_fault = kept->fault;
    kept->fault = none;
}

bool board_read(uint8_t *byte) {
    if (taken == received_bytes) return false;
    *byte = received[taken++];
    return true;
}

/* The host went away: so does the board. */
void board_wait(void) {
    const ssize_t count = read(STDIN_FILENO, received, sizeof received);
    if (count <= 0) exit(0);
    received_bytes = (uint32_t)count;
    taken = 0;
}

void board_write(const uint8_t *bytes, uint32_t count) {
    while (count) {
        const ssize_t written = write(STDOUT_FILENO, bytes, count);
        if (written <= 0) exit(0);
        bytes += written;
        count -= (uint32_t)written;
    }
}

uint32_t board_overruns(void) { return 0; }

static void set_alarm(uint32_t ms) {
    const struct itimerval timer = {.it_value = {(time_t)(ms / 1000u), (suseconds_t)(ms % 1000u * 1000u)}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

uint32_t board_count(void (*section)(void *), void *context, uint32_t limit) {
    set_alarm(limit);
    section(context);
    set_alarm(0u);
    return 0;
}

enum board_counter board_counter(void) { return BOARD_COUNTS_NOTHING; }

uint8_t *board_memory(uint32_t *bytes) {
    *bytes = 0;
    return NULL;
}

uint32_t board_window(void) { return 16; }

uint8_t *board_input_buffer(uint32_t *bytes) {
    *bytes = sizeof inputs;
    return inputs;
}

uint32_t board_boots(void) { return kept->boots; }

const struct board_fault *board_last_fault(void) { return &last_fault; }
