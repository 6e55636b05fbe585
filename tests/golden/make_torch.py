#!/usr/bin/env python3
"""Golden numbers of clean training from PyTorch in float64.

    python3 tests/golden/make_torch.py      writes tests/golden/torch.safetensors (needs torch, numpy)

One small residual network that holds every kind of layer; its logits (training and evaluation), the
gradients of its first step, and the weights after ten steps under three optimisers, each with a
schedule of its own. Images are written NHWC and convolution weights [N, KH, KW, C], as ohmgrad keeps them.
"""
import copy
import json
import os
import struct

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

STEPS, BATCH, SIZE, CHANNELS, CLASSES, SMOOTHING = 10, 8, 17, 3, 5, 0.1


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.down = nn.Conv2d(6, 8, 1, stride=2, bias=False)
        self.downbn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(6, 8, 5, stride=2, padding=2, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc1 = nn.Linear(8, 7)
        self.fc2 = nn.Linear(7, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        y = self.conv3(F.relu(self.bn2(self.conv2(x))))
        x = F.relu(y + self.downbn(self.down(x)))
        x = F.avg_pool2d(x, 2).mean((2, 3))
        return self.fc2(F.relu(self.fc1(x)))


def sgd(decayed, free):
    optimiser = torch.optim.SGD([{"params": decayed, "weight_decay": 5e-3}, {"params": free}], lr=0.1, momentum=0.9, nesterov=True)
    warm = lr_scheduler.LinearLR(optimiser, 1 / 3, 1, 2)
    cosine = lr_scheduler.CosineAnnealingLR(optimiser, STEPS - 3, eta_min=0.1 * 0.05)
    return optimiser, lr_scheduler.SequentialLR(optimiser, [warm, cosine], [3]), None


def adam(decayed, free):
    optimiser = torch.optim.Adam([{"params": decayed, "weight_decay": 0.01}, {"params": free}], lr=0.01, betas=(0.8, 0.95), eps=1e-6)
    return optimiser, lr_scheduler.StepLR(optimiser, 4, 0.3), None


def adamw(decayed, free):
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.2}, {"params": free, "weight_decay": 0}], lr=0.02, eps=1e-8)
    return optimiser, lr_scheduler.LambdaLR(optimiser, lambda step: 1), 0.25


def loss_of(network, batch):
    return F.cross_entropy(network(batch[0]), batch[1], label_smoothing=SMOOTHING)


def ours(name, tensor):
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def state(network, prefix):
    return {f"{prefix}/{name}": ours(name, value) for name, value in network.state_dict().items()
            if not name.endswith("num_batches_tracked")}


def train(start, make, batches, prefix):
    network = copy.deepcopy(start).train()
    decayed = [p for n, p in network.named_parameters() if p.ndim > 1]
    free = [p for n, p in network.named_parameters() if p.ndim == 1]
    optimiser, schedule, clip = make(decayed, free)
    losses, rates = [], []
    for step in range(STEPS):
        optimiser.zero_grad()
        loss = loss_of(network, batches[step % 2])
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        losses.append(loss.item())
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()
    made = state(network, prefix)
    made[f"{prefix}/losses"], made[f"{prefix}/rates"] = np.array(losses), np.array(rates)
    made[f"{prefix}/eval_logits"] = network.eval()(batches[0][0]).detach().numpy()
    return made


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    torch.manual_seed(1)
    # Rounded to float32 first: both sides start from the same numbers.
    network = Tiny().float().double()
    for norm in (network.bn1, network.bn2, network.downbn):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
        for tensor in (norm.weight, norm.bias):
            tensor.data = tensor.data.float().double()
    batches = [(torch.randn(BATCH, CHANNELS, SIZE, SIZE).double(), torch.randint(CLASSES, (BATCH,))) for _ in range(2)]
    tensors = state(network, "start")
    for i, (images, labels) in enumerate(batches):
        tensors[f"images{i}"] = images.numpy().transpose(0, 2, 3, 1)
        tensors[f"labels{i}"] = labels.numpy()
    first = copy.deepcopy(network).train()
    tensors["logits"] = first(batches[0][0]).detach().numpy()
    fresh = copy.deepcopy(network).train()
    loss_of(fresh, batches[0]).backward()
    for name, parameter in fresh.named_parameters():
        tensors[f"gradient/{name}"] = ours(name, parameter.grad)
    for make in (sgd, adam, adamw):
        tensors |= train(network, make, batches, make.__name__)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch.safetensors")
    write_safetensors(path, tensors, {"torch": torch.__version__})


if __name__ == "__main__":
    main()
