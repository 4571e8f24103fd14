/* What a Cortex-M3 does before main, and how main's printf and exit code reach the emulator or the debugger. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

extern uint32_t data_start[], data_end[], bss_start[], bss_end[], stack_top[];
extern const uint32_t data_load[];

int main(void);
void initialise_monitor_handles(void);

void reset(void);

void reset(void)
{
    const uint32_t *from = data_load;
    uint32_t *to;
    int code;
    for (to = data_start; to < data_end; to++)
        *to = *from++;
    for (to = bss_start; to < bss_end; to++)
        *to = 0;
    initialise_monitor_handles();
    code = main();
    fflush(stdout);
    _exit(code);
}

static void fault(void)
{
    _exit(2);
}

/* The start of the stack, then what is called after a reset and after the faults. */
static const struct {
    uint32_t *stack;
    void (*handlers[6])(void);
} vectors __attribute__((section(".vectors"), used)) = {stack_top, {reset, fault, fault, fault, fault, fault}};
