# ohmgrad. `make help` lists the targets. New files need no edit here: the folders are globbed.
#
# Overridable: CC, CXX, BUILD (output folder), CFLAGS (added last), WERROR=1, SAN=1, PREFIX, DESTDIR,
# NVCC, CUDA=0 (leaves the CUDA backend out), NVTX=0 (leaves Nsight's ranges out); V=1 shows the commands.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

CC      := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
# The compiler of the host executor, in tests alone: the C compiler's sibling.
CXX     := $(if $(filter default undefined,$(origin CXX)),$(subst clang,clang++,$(subst gcc,g++,$(CC))),$(CXX))
NVCC    ?= nvcc
BUILD   ?= build
VERSION := 0.1.0
WERROR  ?= 0
SAN     ?= 0
NVTX    ?= 1
PREFIX  ?= /usr/local
DESTDIR ?=

SAY   = @echo '  $(1)'
Q    := $(if $(V),,@)

OPTIMISE := $(if $(filter 1,$(SAN)),-O1 -fno-omit-frame-pointer,-O3)
# -w: instrumented code makes gcc's flow analysis warn of what is not there.
SAN_ON   := -w -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
BASE     := -std=c11 -D_GNU_SOURCE $(OPTIMISE) -g -ffp-contract=off -fno-math-errno -fopenmp \
            -Wall -Wextra $(if $(filter 1,$(WERROR)),-Werror) $(if $(filter 1,$(SAN)),$(SAN_ON))
COMPILE   = $(CC) $(BASE) -I. -I$(BUILD) $(CFLAGS) $(FILE_FLAGS) -MMD -MP -c
LIBS     := -lopenblas -lyaml -lcjson -lmd -lm -ldl -lpthread

# NVTX is headers alone: ranges for Nsight, made in host/trace.c and nowhere else (NVTX=0: not at all).
CUDA_HEADERS := $(firstword $(wildcard $(CUDA_HOME)/include /usr/local/cuda/include))
NVTX_SEARCH  := -DOHM_NVTX=1 $(if $(CUDA_HEADERS),-idirafter $(CUDA_HEADERS))
NVTX_FOUND   := $(if $(filter 0,$(NVTX)),,$(shell echo '\#include <nvtx3/nvToolsExt.h>' | \
                  $(CC) $(CFLAGS) $(NVTX_SEARCH) -E -x c - >/dev/null 2>&1 && echo yes))
%/host/trace.o: FILE_FLAGS := $(if $(NVTX_FOUND),$(NVTX_SEARCH))

# The sparse direct solver that tests and benchmarks compare with, where SuiteSparse is installed.
CHOLMOD := $(shell printf '\043include <suitesparse/cholmod.h>\nint main(void) { return !cholmod_start; }' | \
             $(CC) $(CFLAGS) -x c - -lcholmod -o /dev/null >/dev/null 2>&1 && echo -lcholmod)
%/tests/oracle_sparse.o: FILE_FLAGS := $(if $(CHOLMOD),-DOHM_HAVE_CHOLMOD=1)

# One object per instruction set for kernels/*_simd.c (kernels/cpu.h).
ISA_FLAGS_base   := -DOHM_ISA=base
ISA_FLAGS_avx2   := -DOHM_ISA=avx2 -mavx2 -mfma -mf16c
ISA_FLAGS_avx512 := -DOHM_ISA=avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mavx2 \
                    -mprefer-vector-width=512
ISAS := base $(if $(findstring x86_64,$(shell $(CC) -dumpmachine 2>/dev/null)),avx2 avx512)

SIMD_SRC  := $(wildcard kernels/*_simd.c)
LIB_SRC   := $(filter-out $(SIMD_SRC) %_cuda.c,$(wildcard kernels/*.c host/*.c models/*.c datasets/*.c))
CLI_SRC   := $(wildcard host/cli/*.c)
TEST_SRC  := $(wildcard tests/*.c)
BENCH_SRC := $(filter-out %_cuda.c,$(wildcard profiling/bench_*.c))
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
PLUGINS   := $(patsubst models/plugins/%.c,$(BUILD)/plugins/%.so,$(wildcard models/plugins/*.c))

OBJ       := $(BUILD)/obj
LIB_OBJ   := $(LIB_SRC:%.c=$(OBJ)/%.o) \
             $(foreach isa,$(ISAS),$(SIMD_SRC:%.c=$(OBJ)/%.$(isa).o))
CLI_OBJ   := $(CLI_SRC:%.c=$(OBJ)/%.o)
TEST_OBJ  := $(TEST_SRC:%.c=$(OBJ)/%.o)
PART_OBJ  := $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(BENCH_SRC) %_cuda.c,$(wildcard profiling/*.c)))
BENCH_BIN := $(BENCH_SRC:profiling/%.c=$(BUILD)/%)

LIB     := $(BUILD)/libohmgrad.a
PROGRAM := $(if $(filter %/main.c,$(CLI_SRC)),$(BUILD)/ohmgrad)
TESTS   := $(BUILD)/tests

# ---- the CUDA part: kernels/*_cuda.cu and the host code that calls them, host/*_cuda.c ------------
#
# Built where nvcc compiles a probe. Sanitised builds leave it out: the host executor, which compiles
# the same kernel sources as C++ for the tests, is what a sanitiser can look at.
GENCODE  := -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a \
            -gencode=arch=compute_80,code=compute_80
CUDA     ?= $(if $(filter 1,$(SAN)),0,auto)
CUDA_ANSWER := $(if $(filter 0,$(CUDA)),0 left out (CUDA=0),$(if \
                 $(filter-out help clean deps,$(or $(MAKECMDGOALS),all)),$(shell \
                 sh .ci/probe-cuda $(BUILD) $(NVCC) $(CC) $(GENCODE))))
CUDA_ON   := $(filter 1,$(firstword $(CUDA_ANSWER)))
CUDA_LIBS := $(if $(CUDA_ON),$(wordlist 2,99,$(CUDA_ANSWER)))

CUDA_SRC      := $(wildcard kernels/*_cuda.cu)
CUDA_HOST_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard host/*_cuda.c))
CUDA_TEST_SRC := $(wildcard tests/executor/*_cuda.cu)
CUDA_OBJ      := $(CUDA_SRC:%.cu=$(OBJ)/cuda/%.o)
CUDA_LIB      := $(if $(CUDA_ON),$(BUILD)/libohmgrad_cuda.a)
CUDA_TESTS    := $(if $(CUDA_ON),$(BUILD)/tests-cuda)
EXECUTOR_OBJ  := $(patsubst %.cu,$(OBJ)/executor/%.o,$(filter-out kernels/runtime_cuda.cu,$(CUDA_SRC)) \
                   $(wildcard tests/executor/*.cu)) \
                 $(patsubst %.cpp,$(OBJ)/executor/%.o,$(wildcard tests/executor/*.cpp))

all: $(LIB) $(CUDA_LIB) $(PROGRAM) $(PLUGINS) ## the library and the program, in build/
	@echo "  cuda  $(if $(CUDA_ON),found: $(NVCC) builds the CUDA backend for sm_80$(comma) sm_90a and PTX,missing: CPU alone; $(wordlist 2,40,$(CUDA_ANSWER)))"

comma := ,

tests-binary: $(TESTS) $(CUDA_TESTS) $(PROGRAM) $(PLUGINS) $(BUILD)/bench_cuda_executor $(BUILD)/bench_modes_executor \
              $(BUILD)/bundled/ohmgrad

.PHONY: all tests-binary FORCE

# ---- building ------------------------------------------------------------------------------

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(call SAY,ar    $@)
	$(Q)ar rcs $@ $^

# The table of registers and spills comes with every new archive; spills where they must not be end it.
$(BUILD)/libohmgrad_cuda.a: $(CUDA_OBJ) $(CUDA_HOST_OBJ)
	@rm -f $@
	@sh .ci/ptxas $(CUDA_OBJ:.o=.ptxas)
	$(call SAY,ar    $@)
	$(Q)ar rcs $@ $^

# All of the library goes in and stays visible: a plug-in that is loaded later may call any of it.
WHOLE := -Wl,--whole-archive $(LIB) -Wl,--no-whole-archive
WHOLE_CUDA := $(if $(CUDA_ON),-Wl$(comma)--whole-archive $(CUDA_LIB) -Wl$(comma)--no-whole-archive)

$(BUILD)/ohmgrad $(BUILD)/bundled/ohmgrad: $(CLI_OBJ) $(LIB) $(CUDA_LIB) $(BUILD)/link.txt
	@mkdir -p $(@D)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -rdynamic -o $@ $(CLI_OBJ) $(WHOLE) $(WHOLE_CUDA) $(LDFLAGS) $(LIBS) $(CUDA_LIBS)

# The program's own files, without its main, are linked in so that tests can call them. In tests the
# CUDA part runs on the host executor, in tests-cuda on a device.
TEST_PARTS := $(TEST_OBJ) $(filter-out %/main.o,$(CLI_OBJ)) $(CUDA_HOST_OBJ)
TEST_LIBS  := -lcheck -lsubunit -lrt $(CHOLMOD)
$(TESTS): $(TEST_PARTS) $(EXECUTOR_OBJ) $(LIB)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -rdynamic -o $@ $(filter %.o,$^) $(WHOLE) $(LDFLAGS) $(TEST_LIBS) $(LIBS) -lstdc++

$(BUILD)/tests-cuda $(BUILD)/bundled/tests-cuda: $(CUDA_LIB) $(TEST_PARTS) $(CUDA_TEST_SRC:%.cu=$(OBJ)/cuda/%.o) \
                     $(OBJ)/tests/executor/executor_absent.o $(CUDA_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -rdynamic -o $@ $(filter %.o,$^) $(WHOLE) $(LDFLAGS) $(TEST_LIBS) $(LIBS) $(CUDA_LIBS)

# Those of a bundle find their libraries beside them, and what these need as well: RPATH, not RUNPATH.
$(BUILD)/bundled/%: LDFLAGS += -s -Wl,-rpath,'$$ORIGIN/lib' -Wl,--disable-new-dtags

# A program is linked again when its CUDA part comes or goes.
$(BUILD)/link.txt: FORCE
	@mkdir -p $(BUILD)
	@echo '$(CUDA_LIBS)' | cmp -s - $@ || echo '$(CUDA_LIBS)' > $@

$(filter-out %/bench_modes,$(BENCH_BIN)): $(BUILD)/%: $(OBJ)/profiling/%.o $(PART_OBJ) $(LIB)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LDFLAGS) $(LIBS) $(if $(filter %/oracle_sparse.o,$^),$(CHOLMOD))

BENCH_CUDA_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard profiling/bench_*cuda.c))
# Of devices; and the same on the host executor, where tests try it on little data.
$(BUILD)/bench_cuda $(BUILD)/bundled/bench_cuda: $(BENCH_CUDA_OBJ) $(PART_OBJ) $(CUDA_LIB) $(LIB)
	@mkdir -p $(@D)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -o $@ $(filter %.o,$^) $(CUDA_LIB) $(LIB) $(LDFLAGS) $(LIBS) $(CUDA_LIBS)

$(BUILD)/bench_cuda_executor: $(BENCH_CUDA_OBJ) $(PART_OBJ) $(EXECUTOR_OBJ) $(LIB)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LDFLAGS) $(LIBS) -lstdc++

# The gradient modes, on either.
$(BUILD)/bench_modes $(BUILD)/bundled/bench_modes: $(OBJ)/profiling/bench_modes.o $(PART_OBJ) $(LIB) $(CUDA_LIB) $(BUILD)/link.txt
	@mkdir -p $(@D)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -o $@ $(filter %.o,$^) $(WHOLE_CUDA) $(LIB) $(LDFLAGS) $(LIBS) $(CUDA_LIBS)

$(BUILD)/bench_modes_executor: $(OBJ)/profiling/bench_modes.o $(PART_OBJ) $(CUDA_HOST_OBJ) $(EXECUTOR_OBJ) $(LIB)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(LDFLAGS) $(LIBS) -lstdc++

$(BUILD)/bench_irdrop: $(OBJ)/tests/oracle_sparse.o

# Objects depend on the flags they were made with; the commit is compiled into whoever prints it.
STAMPS := $(BUILD)/flags.txt $(BUILD)/headers.ok
$(OBJ)/%.o: %.c $(STAMPS) | $(BUILD)/build_info.h
	@mkdir -p $(@D)
	$(call SAY,$(CC)   $<)
	$(Q)$(COMPILE) -o $@ $<

# Contractions are written out as fmaf: the compiler makes none. No C++ runtime is needed to link the
# objects. ptxas says what each kernel takes.
NVCC_BASE := -std=c++17 -O3 --fmad=false $(GENCODE) -Werror all-warnings -Xptxas -v -lineinfo \
             -Xcompiler -Wall,-Wextra,-Werror,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics
$(OBJ)/cuda/%.o: %.cu $(BUILD)/nvcc.txt
	@mkdir -p $(@D)
	$(call SAY,nvcc  $<)
	$(Q)$(NVCC) $(NVCC_BASE) -I. -MMD -MP -MF $(@:.o=.d) -c -o $@ $< \
	  >$(@:.o=.ptxas) 2>&1 || { grep -Ev '^ptxas info|bytes stack frame' $(@:.o=.ptxas) >&2; exit 1; }

$(BUILD)/nvcc.txt: FORCE
	@mkdir -p $(BUILD)
	@echo '$(NVCC) $(NVCC_BASE)' | cmp -s - $@ || echo '$(NVCC) $(NVCC_BASE)' > $@

# Kernel sources as C++ (tests/executor/README.md).
EXECUTOR_BASE := -x c++ -std=c++17 -D_GNU_SOURCE -DOHM_EXECUTOR -O2 -g -ffp-contract=off -fno-math-errno \
                 -Wall -Wextra -Wno-unknown-pragmas -Wno-pass-failed $(if $(filter 1,$(WERROR)),-Werror) \
                 $(if $(filter 1,$(SAN)),$(SAN_ON)) \
                 -include tests/executor/device_executor.hpp
define executor_rule
$(OBJ)/executor/%.o: %.$(1) $(STAMPS)
	@mkdir -p $$(@D)
	$$(call SAY,$$(CXX)   $$<)
	$$(Q)$$(CXX) $$(EXECUTOR_BASE) -I. $$(CFLAGS) -MMD -MP -c -o $$@ $$<
endef
$(foreach kind,cu cpp,$(eval $(call executor_rule,$(kind))))

define isa_rule
$(OBJ)/%_simd.$(1).o: %_simd.c $(STAMPS) | $(BUILD)/build_info.h
	@mkdir -p $$(@D)
	$$(call SAY,$$(CC)   $$< $(1))
	$$(Q)$$(COMPILE) $(ISA_FLAGS_$(1)) -o $$@ $$<
endef
$(foreach isa,$(ISAS),$(eval $(call isa_rule,$(isa))))

# What they call of the library is found in the program that loads them.
$(BUILD)/plugins/%.so: models/plugins/%.c $(STAMPS) | $(BUILD)/build_info.h
	@mkdir -p $(@D)
	$(call SAY,$(CC)   $@)
	$(Q)$(filter-out -c,$(COMPILE)) -MF $(@:.so=.d) -MT $@ -fPIC -shared -o $@ $<

FLAGS_LINE := $(CC) $(CXX) $(BASE) $(CFLAGS) $(LDFLAGS)$(if $(NVTX_FOUND), nvtx) $(CHOLMOD)
$(BUILD)/flags.txt: FORCE
	@mkdir -p $(BUILD)
	@echo '$(FLAGS_LINE)' | cmp -s - $@ || echo '$(FLAGS_LINE)' > $@

$(BUILD)/build_info.h: FORCE
	@mkdir -p $(BUILD)
	@{ echo '/* Written by the Makefile. */'; \
	   echo '#define OHM_VERSION "$(VERSION)"'; \
	   echo "#define OHM_COMMIT \"$$(cat commit.txt 2>/dev/null || git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)\""; \
	   echo "#define OHM_COMPILER \"$$($(CC) --version 2>/dev/null | head -n 1)\""; \
	   echo '#define OHM_CFLAGS "$(strip $(BASE) $(CFLAGS))"'; } > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(BUILD)/headers.ok: $(BUILD)/flags.txt
	@for h in stdio.h cblas.h yaml.h cjson/cJSON.h sha256.h; do \
	  echo "#include <$$h>" | $(CC) $(CFLAGS) -E -x c - >/dev/null 2>&1 || missing="$$missing $$h"; \
	 done; \
	 if [ -n "$$missing" ]; then \
	   echo "make: the compiler '$(CC)' finds no$$missing; 'make deps' installs what is missing" >&2; \
	   exit 1; \
	 fi; \
	 touch $@

# ---- running -------------------------------------------------------------------------------

# A make that was given no -j builds on all cores where a person is waiting for the end.
JOBS = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc 2>/dev/null || echo 1))
AGAIN = +@$(MAKE) --no-print-directory
DEMO = $(BUILD)/ohmgrad demo

# On the CPU: a CUDA part, which takes minutes to compile, is left to `make`.
demo: deps ## installs what is missing, builds, trains LeNet three ways, prints the table
	$(AGAIN) $(JOBS) CUDA=0 all
	$(DEMO)

deps: ## installs the packages that are missing, as root or through sudo
	@sh .ci/deps

# ---- tests ---------------------------------------------------------------------------------

# On a device the kernels' tables run once more, before the last line that others look for.
run-tier: tests-binary
	$(if $(CUDA_ON),@if [ -e /dev/nvidiactl ] && [ -z "$(TEST_ARGS)" ]; then \
	  $(BUILD)/tests-cuda --tier=$(TIER) --gtest_filter='*_cuda.*'; fi)
	OMP_WAIT_POLICY=passive $(BUILD)/tests --tier=$(TIER) $(TEST_ARGS)

check: ## quick tests, under 30 s; TEST_ARGS=--gtest_filter=... narrows
	$(AGAIN) run-tier TIER=quick

# What only tests need; those that miss it are skipped.
TEST_PACKAGES := ngspice libsuitesparse-dev

test-deps: deps
	@sh .ci/deps $(TEST_PACKAGES) || echo "make: tests that need $(TEST_PACKAGES) are skipped"

test: test-deps ## everything that runs on this machine
	$(AGAIN) $(JOBS) run-tier TIER=slow

test-long: test-deps ## that, the long tests, and a minute of every fuzzer
	$(AGAIN) $(JOBS) run-tier TIER=long
	$(AGAIN) fuzz

san: ## quick tests under ASan and UBSan, leaks included
	$(AGAIN) BUILD=$(BUILD)/san SAN=1 tests-binary
	+@leaks=1; \
	 if ! ASAN_OPTIONS=detect_leaks=1 $(BUILD)/san/tests --gtest_list_tests >/dev/null 2>&1; then \
	   echo "san: leak detection does not work on this machine and is off"; leaks=0; \
	 fi; \
	 ASAN_OPTIONS=detect_leaks=$$leaks UBSAN_OPTIONS=print_stacktrace=1 CK_TIMEOUT_MULTIPLIER=5 \
	   $(MAKE) --no-print-directory BUILD=$(BUILD)/san SAN=1 run-tier TIER=quick

ptxas: $(if $(CUDA_ON),$(CUDA_OBJ)) ## registers, shared memory and spills of every CUDA kernel
	@$(if $(CUDA_ON),sh .ci/ptxas $(CUDA_OBJ:.o=.ptxas),echo "ptxas: SKIPPED, $(wordlist 2,40,$(CUDA_ANSWER))")

layers: $(BUILD)/build_info.h ## include directions, file names, lengths, READMEs
	@CC=$(CC) BUILD=$(BUILD) .ci/layers

# ---- fuzzing -------------------------------------------------------------------------------

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_BIN     := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/%)
FUZZ_FLAGS   := -fsanitize=address,undefined -fno-sanitize-recover=all -fsanitize=fuzzer

$(FUZZ_BIN): $(BUILD)/%: $(OBJ)/tests/fuzz/%.o $(LIB)
	$(call SAY,link  $@)
	$(Q)$(CC) $(BASE) $(CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDFLAGS) $(LIBS)

fuzz-binaries: $(FUZZ_BIN)

fuzz: ## tests/fuzz/fuzz_*.c under libFuzzer, FUZZ_SECONDS=60 each (clang)
	+@if ! echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	     $(FUZZ_CC) $(FUZZ_FLAGS) -x c -o /dev/null - 2>/dev/null; then \
	   echo "fuzz: SKIPPED, $(FUZZ_CC) with libFuzzer is not here (apt: clang libclang-rt-14-dev)"; \
	 else \
	   $(MAKE) --no-print-directory BUILD=$(BUILD)/fuzz CC=$(FUZZ_CC) \
	     CFLAGS="$(FUZZ_FLAGS:fuzzer=fuzzer-no-link)" fuzz-binaries && \
	   for name in $(notdir $(FUZZ_BIN)); do \
	     BUILD=$(BUILD)/fuzz FUZZ_SECONDS=$(FUZZ_SECONDS) .ci/fuzz $$name || exit 1; \
	   done; \
	 fi

# ---- measuring -----------------------------------------------------------------------------

BENCH ?=
# bench_cuda needs a device: it runs when it is named, and in gpu-report.
BENCH_RUN = $(if $(BENCH),$(BUILD)/bench_$(BENCH),$(BENCH_BIN))

bench: ## one JSON line per figure; BENCH=name runs profiling/bench_name alone
	$(AGAIN) $(JOBS) $(PROGRAM) $(BENCH_RUN)
	@for binary in $(BENCH_RUN); do $$binary $(BENCH_ARGS) || exit 1; done

gpu-report: ## on a machine with a GPU: tests, sanitizer, benchmarks, a training run, one report
	+@sh profiling/gpu-report.sh

# Sources and programs for a machine with a GPU, CUDA and a compiler and nothing else: unpack, ./gpu-report.
BUNDLED := $(addprefix $(BUILD)/bundled/,tests-cuda bench_cuda bench_modes ohmgrad)
bundle-file: $(BUNDLED)
	@CC='$(CC)' sh profiling/bundle.sh $(BUILD)/ohmgrad-gpu.tar.gz $(BUNDLED)

bundle: ## build/ohmgrad-gpu.tar.gz, which brings its libraries to a bare CUDA machine
	$(if $(CUDA_ON),$(AGAIN) $(JOBS) bundle-file,@echo "make: no bundle without nvcc: $(wordlist 2,40,$(CUDA_ANSWER))" >&2; exit 1)

# ---- installing ----------------------------------------------------------------------------

FOLDERS := kernels host models datasets
CHIPS    = $(wildcard models/hardware/*.yaml models/hardware/*.csv)
EXAMPLES = $(wildcard models/*.yaml)

install: all ## library, headers, ohmgrad.pc, program, presets; PREFIX=/usr/local DESTDIR=
	$(AGAIN) install-files

install-files:
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(LIB) $(CUDA_LIB) $(DESTDIR)$(PREFIX)/lib/
	$(if $(PROGRAM),install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/)
	for folder in $(FOLDERS); do \
	  for header in $$folder/*.h; do \
	    [ ! -e $$header ] || install -D -m 644 $$header \
	      $(DESTDIR)$(PREFIX)/include/ohmgrad/$$header || exit 1; \
	  done; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/ohmgrad/hardware $(DESTDIR)$(PREFIX)/share/ohmgrad/examples
	$(if $(CHIPS),install -m 644 $(CHIPS) $(DESTDIR)$(PREFIX)/share/ohmgrad/hardware/)
	install -d $(DESTDIR)$(PREFIX)/share/ohmgrad/plugins
	install -m 644 $(wildcard models/plugins/*) $(DESTDIR)$(PREFIX)/share/ohmgrad/plugins/
	$(if $(EXAMPLES),install -m 644 $(EXAMPLES) $(DESTDIR)$(PREFIX)/share/ohmgrad/examples/)
	{ echo 'prefix=$(PREFIX)'; \
	  echo 'compiler=$(CC)'; \
	  echo 'Name: ohmgrad'; \
	  echo 'Description: Straight-through training through a simulated analog chip'; \
	  echo 'Version: $(VERSION)'; \
	  echo 'Cflags: -I$${prefix}/include/ohmgrad'; \
	  echo 'Libs: -L$${prefix}/lib -lohmgrad $(if $(CUDA_ON),-lohmgrad_cuda )$(LIBS) $(CUDA_LIBS) -fopenmp'; \
	} > $(DESTDIR)$(PREFIX)/lib/pkgconfig/ohmgrad.pc

# ---- housekeeping --------------------------------------------------------------------------

clean: ## removes build/
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

.PHONY: demo deps test-deps run-tier check test test-long san ptxas layers fuzz fuzz-binaries bench gpu-report \
        bundle bundle-file install \
        install-files clean help

-include $(shell find $(OBJ) $(BUILD)/plugins -name '*.d' 2>/dev/null)
