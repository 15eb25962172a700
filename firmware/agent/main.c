#include "agent.h"
#include "board.h"

int main(void) {
    board_init();
    agent_start();
    for (;;) {
        uint8_t byte;
        if (board_read(&byte)) agent_take(byte);
        else board_wait();
    }
}
