#include "agent.h"
#include "board.h"

/* Which board the file is for, for tools that read it (zobnn flash): no byte of it is loaded. */
__asm__(".pushsection .zobnn.board, \"\", %progbits\n.asciz \"" BOARD_NAME "\"\n.popsection");

int main(void) {
    board_init();
    agent_start();
    for (;;) {
        uint8_t byte;
        if (board_read(&byte)) agent_take(byte);
        else board_wait();
    }
}
