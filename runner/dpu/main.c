/* The functional model as a program; files.h says how it is called. */
#include "execute.h"
#include "files.h"

static int run_cases(dpu_run *run, dpu_machine *machine) {
    int code = DPU_GOOD;
    for (uint32_t k = 0; k < run->cases && !code; ++k) {
        if ((code = dpu_read_case(run, machine->memory))) break;
        dpu_execute(machine);
        code = dpu_write_case(run, machine->memory);
    }
    return code;
}

int main(int argc, char **argv) {
    dpu_run run;
    int code = dpu_open(&run, argc, argv);
    if (!code) {
        dpu_machine machine;
        if (dpu_machine_make(&machine, &run.program, run.constants) == 0) {
            code = run_cases(&run, &machine);
        } else {
            fprintf(stderr, "there is no memory for the banks\n");
            code = DPU_FAILED;
        }
        dpu_machine_free(&machine);
    }
    int closed = dpu_close(&run);
    return code ? code : closed;
}
