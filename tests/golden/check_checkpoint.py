#!/usr/bin/env python3
"""A LeNet-5 checkpoint of ours gives the same logits in PyTorch. By hand:

    make install PREFIX=/tmp/p
    build/ohmgrad train models/digits_lenet.yaml --set train.steps=60 --out /tmp/run
    PKG_CONFIG_PATH=/tmp/p/lib/pkgconfig python3 tests/golden/check_checkpoint.py /tmp/run/checkpoints/*.safetensors

needs torch, safetensors and a C compiler: our logits come from a program that links the installed library.
"""
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

IMAGES = 64
PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "host/checkpoint.h"
#include "host/npy.h"
#include "models/networks.h"

static ohm_status logits_of(const char *path, const ohm_npy *x, const char *out)
{
    static ohm_config config;
    static ohm_architecture a;
    ohm_network *network;
    int calibrated;
    OHM_TRY(ohm_checkpoint_read_config(&config, path));
    OHM_TRY(ohm_model_build(&a, &config, (int)x->shape[1], (int)x->shape[2], (int)x->shape[3], 10));
    OHM_TRY(ohm_network_create(&network, &a, &config, &(ohm_network_options){(int)x->shape[0], 0, 0}));
    OHM_TRY(ohm_checkpoint_load_weights(path, network, &calibrated));
    memcpy(ohm_network_images(network), x->value, x->count * sizeof(float));
    ohm_pass pass = {.images = (int)x->shape[0], .mode = OHM_MODE_BASELINE};
    OHM_TRY(ohm_network_forward(network, &pass));
    OHM_TRY(ohm_npy_write(out, ohm_network_logits(network), 2, (const int64_t[]){pass.images, 10}));
    ohm_network_destroy(network);
    return OHM_OK;
}

int main(int argc, char **argv)
{
    ohm_npy x;
    if (argc != 4 || ohm_npy_read(&x, argv[2]) != OHM_OK || logits_of(argv[1], &x, argv[3]) != OHM_OK) {
        fprintf(stderr, "%s\n", ohm_error_text());
        return 1;
    }
    ohm_npy_free(&x);
    return 0;
}
"""


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # a linear layer behind a convolution keeps (row, column, channel)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def main():
    checkpoint = sys.argv[1]
    tensors = load_file(checkpoint)
    network = LeNet()
    network.load_state_dict({name: tensors[name] for name in network.state_dict()})
    images = torch.rand(IMAGES, 1, 32, 32)
    with tempfile.TemporaryDirectory() as folder:
        at = lambda name: os.path.join(folder, name)
        with open(at("logits.c"), "w") as file:
            file.write(PROGRAM)
        np.save(at("x.npy"), images.permute(0, 2, 3, 1).contiguous().numpy())
        flags = shlex.split(subprocess.check_output(["pkg-config", "--cflags", "--libs", "ohmgrad"], text=True))
        subprocess.check_call(["cc", "-D_GNU_SOURCE", at("logits.c"), "-o", at("logits"), *flags])
        subprocess.check_call([at("logits"), checkpoint, at("x.npy"), at("y.npy")])
        ours = np.load(at("y.npy"))
    theirs = network.double()(images.double()).detach().numpy()
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"{len(tensors)} tensors; largest difference of the logits {difference:.2g} of the largest logit")
    sys.exit(1 if difference > 1e-5 else 0)


if __name__ == "__main__":
    main()
