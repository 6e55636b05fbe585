/* The circuit as a SPICE deck. */
#include <math.h>
#include <string.h>

#include "host/crossbar.h"

enum { NAME_BYTES = 48 };

/* A row of nodes from one end to the other: wire segments between cells, an end piece (wire and
 * driver, or wire and sense) at `near` and perhaps at the other end. Zero resistances join nodes. */
typedef struct {
    const char *letter, *outer; /* of nodes, of the terminal */
    int line, cells, near;      /* near: the cell beside the terminal */
    int both;
    double segment, terminal;
} line;

static line word_line(const ohm_crossbar *x, int r)
{
    const ohm_wires *w = &x->network.tile.wires;
    return (line){"w", "in", r, x->network.tile.columns, 0, w->drive_both, w->word_line, w->driver};
}

static line bit_line(const ohm_crossbar *x, int c)
{
    const ohm_wires *w = &x->network.tile.wires;
    return (line){
        "b",           "out",       c,       x->network.tile.rows, x->network.tile.rows - 1,
        w->sense_both, w->bit_line, w->sense};
}

/* Nodes are named w_<row>_<column> and b_<column>_<row>; those joined by zeros take one name. */
static const char *node(char name[NAME_BYTES], const line *l, int cell)
{
    if (l->segment > 0.0)
        snprintf(name, NAME_BYTES, "%s_%d_%d", l->letter, l->line, cell);
    else if (l->terminal > 0.0)
        snprintf(name, NAME_BYTES, "%s_%d", l->letter, l->line);
    else
        snprintf(name, NAME_BYTES, "%s_%d", l->outer, l->line);
    return name;
}

/* From the terminal to the cell at this end: driver or sense, then a segment; `end` is n or f. */
static void print_end(FILE *out, const line *l, int cell, char end)
{
    char inner[NAME_BYTES], middle[NAME_BYTES];
    node(inner, l, cell);
    snprintf(middle, sizeof middle, "%s_%d", l->outer, l->line);
    if (l->terminal > 0.0) {
        char next[NAME_BYTES];
        snprintf(next, sizeof next, "%s%c_%d", l->letter, end, l->line);
        fprintf(out, "R%s%c_%d %s %s %.17g\n", l->outer, end, l->line, middle,
                l->segment > 0.0 ? next : inner, l->terminal);
        snprintf(middle, sizeof middle, "%s", next);
    }
    if (l->segment > 0.0)
        fprintf(out, "R%s%c_%d %s %s %.17g\n", l->letter, end, l->line, middle, inner, l->segment);
}

static void print_line(FILE *out, const line *l)
{
    char a[NAME_BYTES], b[NAME_BYTES];
    print_end(out, l, l->near, 'n');
    for (int i = 1; i < l->cells && l->segment > 0.0; i++)
        fprintf(out, "R%s_%d_%d %s %s %.17g\n", l->letter, l->line, i, node(a, l, i - 1),
                node(b, l, i), l->segment);
    if (l->both)
        print_end(out, l, l->cells - 1 - l->near, 'f');
}

/* Products instead of powers: ngspice's ^ takes the magnitude of its base. */
static void print_cell(FILE *out, const ohm_crossbar *x, int r, int c)
{
    double g = x->network.g[(size_t)r * x->network.tile.columns + c];
    char a[NAME_BYTES], b[NAME_BYTES];
    const line word = word_line(x, r), bit = bit_line(x, c);
    const ohm_cell_law *law = &x->network.law;
    if (!isfinite(1.0 / g)) /* off, or so small that its resistance is no number */
        return;
    node(a, &word, c);
    node(b, &bit, r);
    if (law->iv == OHM_CELL_LINEAR)
        fprintf(out, "Rg_%d_%d %s %s %.17g\n", r, c, a, b, 1.0 / g);
    else if (law->iv == OHM_CELL_SINH)
        fprintf(out, "Bg_%d_%d %s %s I=%.17g*sinh(%.17g*V(%s,%s))\n", r, c, a, b,
                g * law->scale / law->coefficient, law->coefficient, a, b);
    else
        fprintf(out, "Bg_%d_%d %s %s I=%.17g*V(%s,%s)*(1-%.17g*V(%s,%s)*V(%s,%s))\n", r, c, a, b,
                g * law->scale, a, b, law->coefficient, a, b, a, b);
}

/* The column's meter is a source of 0 V between its terminal and ground. */
void ohm_crossbar_netlist(FILE *out, const ohm_crossbar *x, const double *v, int row, int of)
{
    const ohm_wires *w = &x->network.tile.wires;
    fprintf(out,
            "ohmgrad crossbar of %d x %d, input %d of %d\n"
            "* word line %.17g, bit line %.17g ohm per segment; driver %.17g, sense %.17g ohm\n",
            x->network.tile.rows, x->network.tile.columns, row, of, w->word_line, w->bit_line,
            w->driver, w->sense);
    fprintf(out, "* driven at %s, sensed at %s; rows at 0 V are %s\n",
            w->drive_both ? "both ends" : "one end", w->sense_both ? "both ends" : "one end",
            x->gated ? "cut off" : "grounded");
    fprintf(out, "* run: ngspice -b FILE\n");
    for (int r = 0; r < x->network.tile.rows; r++) {
        const line word = word_line(x, r);
        if (x->gated && v[r] == 0.0)
            continue;
        fprintf(out, "Vin_%d in_%d 0 %.17g\n", r, r, v[r]);
        print_line(out, &word);
        for (int c = 0; c < x->network.tile.columns; c++)
            print_cell(out, x, r, c);
    }
    for (int c = 0; c < x->network.tile.columns; c++) {
        const line bit = bit_line(x, c);
        print_line(out, &bit);
        fprintf(out, "Vout_%d out_%d 0 0\n", c, c);
    }
    /* Far inside the tolerances that are tested, and loose enough for Newton's iteration to end. */
    fprintf(out, ".options reltol=1e-11 abstol=1e-18 vntol=1e-14 itl1=1000\n.op\n.control\n"
                 "set numdgt=17\nrun\n");
    for (int c = 0; c < x->network.tile.columns; c++)
        fprintf(out, "print i(vout_%d)\n", c);
    fprintf(out, "quit 0\n.endc\n.end\n");
}
