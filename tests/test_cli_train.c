/* ohmgrad train and eval, as a person runs them: results, interruption, and one line for whatever is
 * wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runner.h"

static char out[1 << 16];

/* Runs a command line in the test's folder; $P is the program, $TRAIN a short training of digits.yaml. */
static int shell(const char *line)
{
    return ohm_test_run(out, sizeof out,
                        "cd '%s' && P='%s'\n"
                        "TRAIN=\"$P train digits.yaml -s threads=1\"\n"
                        "[ -f digits.yaml ] || cat >digits.yaml <<'EOF'\n"
                        "name: small\n"
                        "network: {kind: mlp, width: 24, hidden_layers: 1}\n"
                        "data: {kind: digits, test_limit: 60}\n"
                        "train: {steps: 20, batch: 32, lr: 0.05, log_every: 5, checkpoint_every: 5, eval_every: 10}\n"
                        "eval: {chips: 2}\n"
                        "hardware: {base: lognormal, programming: {level: 3}}\n"
                        "EOF\n%s",
                        ohm_test_tmpdir(), ohm_test_program(), line);
}

static void expect(const char *line, int status, const char *part)
{
    int got = shell(line);
    ck_assert_msg(got == status, "'%s' ended with %d, not %d: %s", line, got, status, out);
    ck_assert_msg(strstr(out, part), "'%s' said '%s', not '%s'", line, out, part);
}

/* Ends non-zero and says so in one line. */
static void refuse(const char *line, int status, const char *part)
{
    expect(line, status, part);
    ck_assert_msg(strncmp(out, "ohmgrad: ", 9) == 0 && strchr(out, '\n') == out + strlen(out) - 1, "'%s' said '%s'", line, out);
}

OHM_TEST(cli_train, trains_resumes_and_evaluates)
{
    expect("$TRAIN", 0, "step 20/20");
    ck_assert_ptr_null(strchr(out, '\r')); /* no bar away from a terminal */
    ck_assert_ptr_nonnull(strstr(out, "runs/small: 20 steps"));
    expect("ls runs/small", 0, "checkpoints\nconfig.yaml\nlock\nmetrics.jsonl\nrun.json\n");
    expect("ls runs/small/checkpoints", 0, "step-00000015.safetensors\nstep-00000020.safetensors\n");
    expect("wc -l <runs/small/metrics.jsonl", 0, "6"); /* four of training, two of evaluation */
    expect("grep -c 'commit.*compiler.*seed.*blas_core' runs/small/run.json || tr -d '\\n' <runs/small/run.json", 0, "\"seed\":\t\"1\"");
    expect("$P train --resume runs/small", 0, "nothing left to do");
    expect("$P train --resume runs/small --device cpu", 0, "device cpu\n"); /* a run may change its device */
    expect("grep -c 'device: auto' runs/small/config.yaml", 0, "1");
    /* eval finds what training reported. */
    expect("a=$(tail -n 1 runs/small/metrics.jsonl); b=$($P eval runs/small --json); for k in 'noisy_accuracy\": ' 'noisy_deviation\": ' "
           "'clean_accuracy\": '; do echo \"$a\" | sed \"s/.*\\\"$k\\([0-9.e-]*\\).*/\\1/\" | cut -c 1-12; done; echo \"$b\" | "
           "sed 's/.*\"mean\":\\([0-9.e-]*\\),\"deviation\":\\([0-9.e-]*\\).*/\\1 \\2/; s/ /\\n/' | cut -c 1-12; "
           "echo \"$b\" | sed 's/.*\"clean_accuracy\":\\([0-9.e-]*\\).*/\\1/' | cut -c 1-12", 0, "");
    char *line[6];
    int lines = 0;
    for (char *at = strtok(out, "\n"); at && lines < 6; at = strtok(NULL, "\n"))
        line[lines++] = at;
    ck_assert_int_eq(lines, 6);
    for (int i = 0; i < 3; i++)
        ck_assert_str_eq(line[i], line[3 + i]);
}

OHM_TEST(cli_train, eval_takes_other_chips_and_times)
{
    expect("$TRAIN --quiet --set hardware=none && ls runs", 0, "small");
    expect("$P eval runs/small", 0, "no chip");
    ck_assert_ptr_null(strstr(out, "chips"));
    expect("$P eval runs/small/checkpoints/step-00000020.safetensors --hardware pcm_ibm --chips 3 --time 1s,1h,2y", 0, "3 chips, 2 y");
    ck_assert_ptr_nonnull(strstr(out, "3 chips, 1 h"));
    expect("$P eval runs/small --config digits.yaml --set eval.chips=3", 0, "3 chips, 0 s");
    refuse("$P eval runs/small --chips 3", 2, "name one with --hardware");
    refuse("$P eval runs/small --chips 0", 2, "--chips '0'");
    refuse("$P eval runs/small --time 1h,", 2, "is no time");
    refuse("$P eval runs/small --time 1w", 2, "'1w' is no time");
    refuse("$P eval runs/small --time nan", 2, "'nan' is no time");
    refuse("$P eval runs/small --set train.lr=x", 2, "train.lr");
    refuse("$P eval runs/small --set network.width=25", 1, "another network or configuration");
    refuse("$P eval runs/small --hardware nothing.yaml", 1, "nothing.yaml");
}

OHM_TEST(cli_train, interrupt_writes_a_checkpoint_and_exits_130)
{
    /* Interrupted once the first lines are there; the two runs then agree but for their timings. */
    expect("$TRAIN -q -o whole -s train.steps=60 -s train.log_every=1; "
           "$TRAIN -q -o cut -s train.steps=60 -s train.log_every=1 -s train.checkpoint_every=0 & p=$!; "
           "while [ ! -s cut/metrics.jsonl ]; do sleep 0.01; done; kill -INT $p; wait $p; echo \"exit $?\"", 0, "");
    if (strstr(out, "exit 0"))
        OHM_SKIP("the run was over before it could be interrupted");
    ck_assert_ptr_nonnull(strstr(out, "exit 130"));
    ck_assert_ptr_nonnull(strstr(out, "go on with --resume cut"));
    expect("ls cut/checkpoints | wc -l", 0, "1");
    expect("$P train -q --resume cut && for d in whole cut; do sed 's/\"seconds\": [0-9.e-]*//' $d/metrics.jsonl >$d.txt; done && "
           "cmp whole.txt cut.txt && wc -l <cut.txt", 0, "66");
}

OHM_TEST(cli_train, a_full_disk_is_reported_and_survived)
{
    expect("$TRAIN -q -o whole && cp -r whole full && rm -r full && echo ready", 0, "ready");
    /* Room for the texts but not for a checkpoint (units of 512 bytes). */
    refuse("(ulimit -f 24; exec $TRAIN -q -o full)", 1, "full, after step 5 (no checkpoint)");
    expect("ls full/checkpoints | wc -l", 0, "0");
    expect("$P train -q --resume full && sed 's/\"seconds\": [0-9.e-]*//' whole/metrics.jsonl >a && "
           "sed 's/\"seconds\": [0-9.e-]*//' full/metrics.jsonl >b && cmp a b && echo same", 0, "same");
    refuse("$TRAIN -o /dev/null/run", 1, "/dev/null/run: cannot make the folder");
    refuse("$TRAIN >/dev/full", 1, "standard output");
}

OHM_TEST(cli_train, what_is_wrong_is_said_in_one_line)
{
    refuse("$P train", 2, "no CONFIG.yaml");
    refuse("$P train missing.yaml", 1, "missing.yaml: cannot open");
    refuse("$TRAIN -s train.lrr=1", 2, "train.lrr");
    refuse("$TRAIN -s train.batch=5000", 2, "more than the 1437 training images");
    refuse("$TRAIN -s data.kind=mnist", 1, "fetch_mnist.sh");
    refuse("mkdir c && head -c 3000 /dev/zero >c/data_batch_1.bin && $TRAIN -s data.kind=cifar10 -s data.dir=c", 1, "truncated");
    refuse("$TRAIN -s train.lr=1000 -s train.optimiser=sgd -s train.mode=baseline -s network.hidden_layers=4 -q -o nan", 1, "last good checkpoint");
    refuse("$TRAIN -q -o nan", 1, "nan: is not empty");
    refuse("mkdir filled filled/checkpoints && touch filled/mine && $TRAIN -o filled", 1, "filled: is not empty");
    refuse("test ! -e filled/lock && mv filled/mine filled/checkpoints && $TRAIN -o filled", 1, "filled: is not empty");
    refuse("$TRAIN -s name=../up", 2, "'../up' makes no folder in runs/");
    refuse("$TRAIN -o a --resume nan", 2, "only one of them");
    refuse("$P train --resume missing", 1, "is no run");
    refuse("$TRAIN --resume nan", 2, "hidden_layers: 4");
    refuse("$TRAIN --device gpu", 2, "'gpu' is not one of the choices");
    refuse("$TRAIN --device cuda", 1, "device cuda");
    refuse("$P train --resume nan --device cuda", 1, "device cuda");
    refuse("$P eval", 2, "nothing to evaluate");
    refuse("$P eval missing", 1, "no such run or file");
    refuse("$P eval digits.yaml", 1, "safetensors");
    refuse("$P eval nan extra", 2, "one argument too many");
}

OHM_TEST(cli_train, damaged_weights_are_refused)
{
    expect("$TRAIN -q -s train.keep=2", 0, "");
    refuse("F=runs/small/checkpoints/step-00000020.safetensors; head -c 9000 $F >cut.safetensors; $P eval cut.safetensors", 1, "cut.safetensors");
    refuse("cp runs/small/checkpoints/step-00000020.safetensors flip.safetensors; "
           "printf '\\377' | dd of=flip.safetensors bs=1 seek=12000 conv=notrunc 2>/dev/null; $P eval flip.safetensors", 1, "the checksum is wrong");
    expect("cp flip.safetensors runs/small/checkpoints/step-00000020.safetensors; $P eval runs/small", 0, "step-00000015.safetensors: mlp");
    ck_assert_ptr_nonnull(strstr(out, "warning: checkpoint skipped"));
    refuse("cp flip.safetensors runs/small/checkpoints/step-00000015.safetensors; $P train -q --resume runs/small", 1, "none of its 2 checkpoints");
}

/* SIGKILL wherever it falls, until a run gets through; the weights are compared in test_train.c. */
OHM_TEST_SLOW(cli_train, killed_at_random_it_still_ends_the_same)
{
    expect("$TRAIN -q -o whole -s train.steps=300 -s train.checkpoint_every=2\n"
           "n=0; mode='-o killed digits.yaml -s threads=1 -s train.steps=300 -s train.checkpoint_every=2'\n"
           "while ! timeout -s KILL 0.0$((5 + n % 4))$n \"$P\" train -q $mode >/dev/null 2>&1; do\n"
           "  n=$((n + 1)); [ $n -lt 200 ] || exit 1; [ ! -f killed/config.yaml ] || mode='--resume killed'\n"
           "done\n"
           "for d in whole killed; do sed 's/\"seconds\": [0-9.e-]*//' $d/metrics.jsonl >$d.txt\n"
           "tail -c 14000 $d/checkpoints/step-00000300.safetensors >$d.bin; done\n"
           "cmp whole.txt killed.txt && cmp whole.bin killed.bin && echo \"same after $n kills\"", 0, "same after");
    ck_assert_ptr_null(strstr(out, "after 0 kills"));
}
