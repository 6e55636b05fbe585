/* ohmgrad info: what a report about a run or a bug should carry. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "build_info.h"
#include "host/backend.h"
#include "host/cli/cli.h"
#include "kernels/blas.h"
#include "kernels/cpu.h"

static error_t parse(int key, char *value, struct argp_state *state)
{
    (void)state;
    return key == ARGP_KEY_ARG ? ohm_cli_unexpected(value) : ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
    NULL, parse,
    NULL, "Prints the build, the processor and the libraries that the results of a run depend on.",
    NULL, NULL,
    NULL};

static void print_processor(void)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        char *name = strstr(line, ": ");
        if (!strncmp(line, "model name", 10) && name) {
            printf("processor      %s", name + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

ohm_status ohm_cmd_info(int argc, char **argv)
{
    int helped;
    OHM_TRY(ohm_cli_parse(&argp, argc, argv, NULL, &helped));
    if (helped)
        return OHM_OK;
    printf("version        %s\ncommit         %s\ncompiler       %s\nflags          %s\n",
           OHM_VERSION, OHM_COMMIT, OHM_COMPILER, OHM_CFLAGS);
    print_processor();
    printf("threads        %d\n", omp_get_max_threads());
    printf("instructions   %s\n", ohm_isa_name(ohm_cpu_isa()));
    printf("BLAS           %s\n", ohm_blas_config());
    char devices[1024];
    ohm_backend_list(devices, sizeof devices);
    printf("devices        %s\n", devices);
    return OHM_OK;
}
