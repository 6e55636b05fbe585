/* cuRAND's own Philox, compiled for the host, gives the words of philox.h: kernels use cuRAND's on a
 * device. */
#include <stdio.h>
#include <string.h>

#include "tests/runner.h"

static const char *const program =
    "#include <stdio.h>\n"
    "#include <curand_kernel.h>\n"
    "#include \"kernels/philox.h\"\n"
    "int main()\n"
    "{\n"
    "    int differing = 0, blocks = 0;\n"
    "    for (uint64_t block = 0; block < (uint64_t)1 << 50; block += block / 7 + 1, blocks++) {\n"
    "        const ohm_stream s = {{11u + (uint32_t)blocks, 22u}, OHM_SITE_PROGRAM, 33u, 44u};\n"
    "        uint32_t words[4];\n"
    "        uint4 counter = {(uint32_t)block, ohm_stream_site_word(&s, block), s.where, s.step};\n"
    "        uint2 key = {s.key[0], s.key[1]};\n"
    "        uint4 w = curand_Philox4x32_10(counter, key);\n"
    "        ohm_stream_block(words, &s, block);\n"
    "        differing += w.x != words[0] || w.y != words[1] || w.z != words[2] || w.w != words[3];\n"
    "    }\n"
    /* The state of curand_init: counter = (offset / 4, subsequence). */
    "    curandStatePhilox4_32_10_t state;\n"
    "    curand_init(0x0000001600000007ull, 5, 40, &state);\n"
    "    const uint32_t counter[4] = {10, 0, 5, 0}, key[2] = {7, 0x16};\n"
    "    uint32_t words[4];\n"
    "    ohm_philox4x32(words, counter, key);\n"
    "    for (int i = 0; i < 4; i++)\n"
    "        differing += curand(&state) != words[i];\n"
    "    printf(\"%d blocks, %d differing\\n\", blocks, differing);\n"
    "    return differing != 0;\n"
    "}\n";

OHM_TEST_SLOW(curand, words_are_those_of_philox)
{
    char out[4096], folder[2048];
    const char *dir = ohm_test_tmpdir();
    if (ohm_test_run(folder, sizeof folder,
                     "touch %s/empty.cu && cd \"$(nvcc --dryrun -c %s/empty.cu 2>&1 | "
                     "sed -n 's/^#\\$ TOP=//p')\" && "
                     "test -f include/curand_kernel.h && printf %%s \"$PWD/include\"", dir, dir) != 0)
        OHM_SKIP("no curand_kernel.h beside an nvcc");
    char path[4200];
    snprintf(path, sizeof path, "%s/curand.cpp", dir);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(program, f);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_msg(ohm_test_run(out, sizeof out,
                               "g++ -std=c++17 -w -DQUALIFIERS='static inline' -I. -I'%s' -o %s/curand %s && "
                               "%s/curand",
                               folder, dir, path, dir) == 0,
                  "%s", out);
    ck_assert_msg(strstr(out, " 0 differing") && !strstr(out, "\n0 blocks"), "%s", out);
}
