#!/usr/bin/env python3
"""The rows of `benches/peers` for PyTorch on the CPU: `torch_cpu.py [THREADS]`. Needs torch."""

import sys
import time

import torch
from torch.nn import functional as F


def median(values):
    return sorted(values)[len(values) // 2]


def row(name, run):
    for _ in range(3):
        run()
    times = []
    start = time.perf_counter()
    while len(times) < 15 or (time.perf_counter() - start < 2 and len(times) < 200):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    print(f"| {name} | {median(times) * 1e3:.2f} ms |", flush=True)


def backward(loss, x, *targets):
    def run():
        x.grad = None
        loss(x, *targets).backward()

    return run


def uniform(*shape, half_width):
    return (torch.rand(*shape) * 2 - 1) * half_width


def step():
    network = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    sgd = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = uniform(64, 64, half_width=1), torch.randint(10, (64,))

    def run():
        sgd.zero_grad()
        F.cross_entropy(network(x), y).backward()
        sgd.step()

    return run


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"PyTorch {torch.__version__} on the CPU, {threads} threads\n")
    print("| | PyTorch |\n|---|---|")
    for n, classes in [(64, 10), (1024, 1000), (1024, 4096), (128, 32768)]:
        x = uniform(n, classes, half_width=5).requires_grad_()
        y = torch.randint(classes, (n,))
        row(f"cross-entropy forward + backward, {n} x {classes}", backward(F.cross_entropy, x, y))
    x, y = uniform(1 << 20, half_width=5).requires_grad_(), torch.randint(2, (1 << 20,)).float()
    row("BCE with logits forward + backward, 1M", backward(F.binary_cross_entropy_with_logits, x, y))
    p = torch.rand(1 << 20).requires_grad_()
    row("BCE forward + backward, 1M", backward(F.binary_cross_entropy, p, y))
    for side in [512, 1024]:
        a, b = uniform(side, side, half_width=1), uniform(side, side, half_width=1)
        row(f"matmul {side} x {side} x {side}", lambda a=a, b=b: a @ b)
    value = uniform(1 << 22, half_width=5).requires_grad_()
    value.grad = uniform(1 << 22, half_width=1)
    row("SGD step, 4M parameters", torch.optim.SGD([value], lr=0.01).step)
    row("training step, 64-128-10, batch of 64", step())


if __name__ == "__main__":
    main()
