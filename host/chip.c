#include "host/chip.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "host/backend.h"
#include "host/chip_analog.h"
#include "host/device.h"

enum { REGISTERED_MOST = 32 };

/* The one table of this process that is written after start: simulators registered in code. */
static const ohm_simulator *registered[REGISTERED_MOST];
static int registered_count;

struct ohm_chip {
    ohm_hardware hardware; /* a copy: the shape points into it */
    ohm_chip_shape shape;
    const ohm_simulator *simulator;
    void *self;
    void *library; /* dlopen handle of a plug-in */
};

static const ohm_simulator *find(const char *name)
{
    if (!name[0] || !strcmp(name, ohm_simulator_analog.name))
        return &ohm_simulator_analog;
    for (int i = 0; i < registered_count; i++)
        if (!strcmp(registered[i]->name, name))
            return registered[i];
    return NULL;
}

static ohm_status check(const ohm_simulator *s, const char *where)
{
    if (!s || s->abi != OHM_SIMULATOR_ABI)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "simulator '%s': built for interface %d, this ohmgrad has %d: rebuild it "
                        "against host/chip.h",
                        where, s ? s->abi : 0, OHM_SIMULATOR_ABI);
    if (!s->name || !s->create || !s->destroy || !s->state_bytes || !s->scratch_bytes ||
        !s->program || !s->infer)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "simulator '%s': lacks one of name, create, destroy, state_bytes, "
                        "scratch_bytes, program, infer",
                        where);
    return OHM_OK;
}

ohm_status ohm_chip_register(const ohm_simulator *simulator)
{
    OHM_TRY(check(simulator, simulator && simulator->name ? simulator->name : "?"));
    if (find(simulator->name))
        return OHM_FAIL(OHM_ERR_ARGUMENT, "simulator '%s': the name is taken: choose another",
                        simulator->name);
    if (registered_count == REGISTERED_MOST)
        return OHM_FAIL(OHM_ERR_MEMORY,
                        "simulator '%s': %d are registered already, the most there is room for",
                        simulator->name, REGISTERED_MOST);
    registered[registered_count++] = simulator;
    return OHM_OK;
}

static ohm_status load(ohm_chip *chip, const char *path)
{
    chip->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!chip->library)
        return OHM_FAIL(OHM_ERR_IO,
                        "simulator '%s': cannot be loaded (%s): check the path in 'simulator:'",
                        path, dlerror());
    ohm_simulator_entry_fn entry;
    *(void **)&entry = dlsym(chip->library, "ohm_simulator_entry");
    if (!entry)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "simulator '%s': exports no ohm_simulator_entry: see host/chip.h", path);
    const ohm_simulator *found = entry();
    OHM_TRY(check(found, path)); /* of another interface even destroy may stand elsewhere */
    chip->simulator = found;
    return OHM_OK;
}

static ohm_status choose(ohm_chip *chip, const ohm_backend *backend)
{
    const char *name = chip->hardware.simulator;
    size_t length = strlen(name);
    int built_in = !name[0] || !strcmp(name, ohm_simulator_analog.name);
    if (backend && backend != &ohm_backend_cpu) {
        chip->simulator = built_in ? backend->analog : NULL;
        if (chip->simulator)
            return OHM_OK;
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "simulator '%s': works in host memory alone; set device: cpu",
                        built_in ? ohm_simulator_analog.name : name);
    }
    if (length > 3 && !strcmp(name + length - 3, ".so"))
        return load(chip, name);
    chip->simulator = find(name);
    if (!chip->simulator)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "simulator '%s': not known: use 'analog', a registered name, or a path ending in .so",
            name);
    return OHM_OK;
}

ohm_status ohm_chip_create(ohm_chip **out, const ohm_backend *backend, const ohm_hardware *hardware,
                           int k, int n, uint32_t layer)
{
    if (k < 1 || n < 1 || layer > 65535)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "chip of layer %u: %d inputs and %d outputs: both must be at least 1, the "
                        "layer below 65536",
                        layer, k, n);
    ohm_chip *chip = calloc(1, sizeof *chip);
    if (!chip)
        return OHM_FAIL(OHM_ERR_MEMORY, "chip of layer %u: out of memory", layer);
    chip->hardware = *hardware;
    ohm_device_shape(&chip->shape, &chip->hardware, k, n, layer);
    ohm_status status = choose(chip, backend);
    if (status == OHM_OK)
        status = chip->simulator->create(&chip->self, &chip->shape);
    if (status != OHM_OK) {
        ohm_chip_destroy(chip);
        return status;
    }
    *out = chip;
    return OHM_OK;
}

void ohm_chip_destroy(ohm_chip *chip)
{
    if (!chip)
        return;
    if (chip->simulator && chip->simulator->destroy)
        chip->simulator->destroy(chip->self);
    if (chip->library)
        dlclose(chip->library);
    free(chip);
}

const ohm_chip_shape *ohm_chip_get_shape(const ohm_chip *chip)
{
    return &chip->shape;
}

const ohm_simulator *ohm_chip_simulator(const ohm_chip *chip)
{
    return chip->simulator;
}

size_t ohm_chip_state_bytes(const ohm_chip *chip, int want_gradient)
{
    return chip->simulator->state_bytes(chip->self, want_gradient);
}

size_t ohm_chip_scratch_bytes(const ohm_chip *chip, int max_rows, int want_gradient)
{
    return chip->simulator->scratch_bytes(chip->self, max_rows, want_gradient);
}

ohm_status ohm_chip_kept_bytes(const ohm_chip *chip, size_t *bytes)
{
    *bytes = 0;
    if (!chip->simulator->kept_bytes)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "key 'train.full': simulator '%s' keeps nothing of a read; set recompute",
                        chip->simulator->name);
    return chip->simulator->kept_bytes(chip->self, bytes);
}

ohm_status ohm_chip_program(ohm_chip *chip, const ohm_program_args *args)
{
    return chip->simulator->program(chip->self, args);
}

ohm_status ohm_chip_infer(ohm_chip *chip, const ohm_infer_args *args)
{
    if (args->range && !chip->simulator->measures_range)
        return OHM_FAIL(
            OHM_ERR_UNSUPPORTED,
            "simulator '%s': cannot measure currents: use adc.range max, granular or a number",
            chip->simulator->name);
    return chip->simulator->infer(chip->self, args);
}

ohm_status ohm_chip_backward(ohm_chip *chip, const ohm_backward_args *args)
{
    if (!chip->simulator->backward)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "simulator '%s': has no gradient: use train.mode nograd or detach",
                        chip->simulator->name);
    return chip->simulator->backward(chip->self, args);
}

ohm_status ohm_chip_fault(uint32_t fault, uint32_t layer)
{
    if (fault & OHM_FAULT_INPUT)
        return OHM_FAIL(OHM_ERR_DATA,
                        "noisy layer %u: its input holds NaN or infinity: check the data, or lower "
                        "the learning rate",
                        layer);
    if (fault & OHM_FAULT_WEIGHT)
        return OHM_FAIL(OHM_ERR_DATA,
                        "noisy layer %u: its weights hold NaN or infinity: lower the learning "
                        "rate, or resume from a checkpoint",
                        layer);
    if (fault & OHM_FAULT_NEGATIVE)
        return OHM_FAIL(OHM_ERR_DATA,
                        "noisy layer %u: input.encoding 'unsigned' got a negative input: use "
                        "offset, two_phase or sign_magnitude",
                        layer);
    if (fault & OHM_FAULT_WIRES)
        return OHM_FAIL(OHM_ERR_DATA,
                        "chip of layer %u: the wires of a tile have no finite solution: check "
                        "ir_drop.r_* and cell.g_max_us",
                        layer);
    return OHM_OK;
}
