/* Activation checkpointing: the network as segments, and the ticks of a step. Forward of layer i is tick
 * i. Then, from the last segment to the first: its forward again, unless it is the last one, whose
 * activations are still there, and its backward. The update has the last tick. Only what crosses a cut
 * outlives the forward pass. */
#include "host/network_internal.h"

/* The network can be cut behind a layer when whatever comes later reads nothing before it. */
static int can_cut(const ohm_network *network, int after)
{
    for (int j = after + 1; j < network->count; j++) {
        const ohm_layer *layer = &network->layer[j];
        int other = layer->desc.kind == OHM_LAYER_ADD ? layer->desc.other : after;
        if (layer->desc.input < after || other < after)
            return 0;
    }
    return 1;
}

static int cuts_possible(const ohm_network *network)
{
    int count = 0;
    for (int i = 0; i + 1 < network->count; i++)
        count += can_cut(network, i);
    return count;
}

/* Where to cut: `left` further cuts remain; behind the first possible layer by which the segment holds its
 * share of the activations, and in time for the others. */
static void give_segments(ohm_network *network, int segments)
{
    double all = 0, held = 0;
    int left = segments - 1, possible = cuts_possible(network), segment = 0;
    for (int i = 0; i < network->count; i++)
        all += (double)network->layer[i].out_floats;
    for (int i = 0; i < network->count; i++) {
        ohm_layer *layer = &network->layer[i];
        layer->segment = segment;
        layer->recomputed = segment < segments - 1;
        held += (double)layer->out_floats;
        if (i + 1 == network->count || !can_cut(network, i))
            continue;
        if (left && (held >= all * (segment + 1) / segments || possible == left)) {
            left--;
            segment++;
        }
        possible--;
    }
}

/* Ticks of one segment, first .. end - 1, from *tick on. */
static void give_ticks(ohm_network *network, int first, int end, int *tick)
{
    for (int i = first; i < end; i++)
        network->layer[i].again_tick = network->layer[i].recomputed ? (*tick)++ : -1;
    for (int i = end - 1; i >= first; i--) {
        network->layer[i].again_end = network->layer[end - 1].again_tick;
        network->layer[i].back_tick = (*tick)++;
    }
}

ohm_status ohm_network_cut(ohm_network *network)
{
    int asked = network->options.training ? network->config.train.recompute_segments : 0,
        tick = network->count;
    network->segments = asked < 1 ? 1 : asked;
    if (network->segments > cuts_possible(network) + 1)
        return OHM_FAIL(OHM_ERR_CONFIG,
                        "key 'train.recompute_segments': %s can be cut into at most %d, not %d",
                        network->architecture.name, cuts_possible(network) + 1, asked);
    give_segments(network, network->segments);
    for (int end = network->count, first; end > 0; end = first) {
        for (first = end - 1;
             first > 0 && network->layer[first - 1].segment == network->layer[end - 1].segment;
             first--)
            ;
        give_ticks(network, first, end, &tick);
    }
    network->update_tick = tick;
    return OHM_OK;
}
