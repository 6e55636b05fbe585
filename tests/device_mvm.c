#include "tests/device_mvm.h"

#include "tests/parity.h"

void device_mvm_make(device_mvm *d, const fixture_mvm *f)
{
    const ohm_geometry *g = &f->chip.g;
    const ohm_tiles *from = &f->chip.tiles;
    size_t packed = (size_t)g->slices * ohm_arrays(g) * g->k * ohm_packed_columns(g),
           columns = (size_t)g->slices * ohm_arrays(g) * g->tiles * ohm_packed_columns(g),
           refs = (size_t)g->slices * g->column_tiles * g->k,
           ref_columns = (size_t)g->slices * g->tiles * g->column_tiles;
    d->r = f->chip.read;
    d->w = (ohm_tiles){0};
    const struct {
        float *host, **device;
        size_t count;
    } arrays[] = {{from->w, &d->w.w, packed},
                  {from->variance, &d->w.variance, packed},
                  {from->johnson, &d->w.johnson, columns},
                  {from->gain, &d->w.gain, columns},
                  {from->offset, &d->w.offset, columns},
                  {from->s_shape, &d->w.s_shape, columns},
                  {from->ref, &d->w.ref, refs},
                  {from->ref_variance, &d->w.ref_variance, refs},
                  {from->ref_johnson, &d->w.ref_johnson, ref_columns},
                  {from->ref_gain, &d->w.ref_gain, ref_columns},
                  {from->ref_offset, &d->w.ref_offset, ref_columns},
                  {from->ref_s_shape, &d->w.ref_s_shape, ref_columns}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i].host)
            *arrays[i].device = parity_upload(arrays[i].host, arrays[i].count * sizeof(float));
    d->r.lsb = parity_upload(f->chip.lsb, (size_t)g->planes * g->slices *
                                              (d->r.lsb_per_column ? g->n : 1) * sizeof(float));
    d->input = (ohm_mvm_input){.g = g,
                               .r = &d->r,
                               .w = &d->w,
                               .x_u = parity_upload(f->codes, (size_t)f->m * f->k),
                               .ldx = f->k,
                               .m = f->m,
                               .first_row = f->first_row};
}
