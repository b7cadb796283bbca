/* A test program's main: runs its cases, or those whose names contain one of the arguments.
 *
 * `--list` prints the names. A failed assertion or a sanitizer's report ends the program. */
#ifndef CONFSIM_TESTING_H
#define CONFSIM_TESTING_H

#include <stdio.h>
#include <string.h>

#include "core/isa.h"

typedef struct {
    const char *name;
    void (*run)(void);
} test_case;

/* clang-format off */
#define CASE(function) {#function, function}
/* clang-format on */

static inline int run_cases(const test_case *cases, int count, int argc, char **argv) {
    for (int i = 0; i < count; i++) {
        int wanted = argc < 2;
        for (int a = 1; a < argc; a++) {
            if (!strcmp(argv[a], "--list")) printf("%s\n", cases[i].name);
            wanted |= strstr(cases[i].name, argv[a]) != NULL;
        }
        if (!wanted) continue;
        cases[i].run();
        printf("  %s: ok\n", cases[i].name);
    }
    return 0;
}

#define RUN_CASES(cases, argc, argv)                                                               \
    run_cases(cases, (int)(sizeof(cases) / sizeof *(cases)), argc, argv)

/* Call something with every instruction set that runs here. */
static inline void on_every_isa(void (*call)(confsim_isa isa)) {
    for (int isa = CONFSIM_ISA_PORTABLE; isa <= CONFSIM_ISA_NEON; isa++)
        if (confsim_isa_available((confsim_isa)isa)) call((confsim_isa)isa);
}

#endif
