#!/usr/bin/env python3
"""Expected values of elementwise losses, computed by PyTorch, in the format of FORMAT.md.

    pip install torch numpy safetensors
    python3 tests/corpus/generate.py huber        # writes tests/corpus/huber_*.safetensors

A new loss needs an entry in LOSSES: the ranges of inputs and targets, PyTorch's function, and its
options besides weight and reduction. It also needs a section in FORMAT.md, and the names of its
options in tests/corpus/losses.rs. If PyTorch's function takes no weights, no case has any. The f64
values are computed in float64 from the same f32 inputs. Each case's random seed follows from its
name, so the files are reproducible.
"""

import argparse
import inspect
import pathlib
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

# The range of inputs, the range of targets, PyTorch's function, and the sets of options.
LOSSES = {
    "bce": ((0.0, 1.0), (0.0, 1.0), F.binary_cross_entropy, [{}]),
    "bce_with_logits": ((-9.0, 9.0), (0.0, 1.0), F.binary_cross_entropy_with_logits, [{}]),
    "huber": ((-9.0, 9.0), (-9.0, 9.0), F.huber_loss, [{"delta": 1.0}, {"delta": 0.3}, {"delta": 20.0}]),
    "mse": ((-9.0, 9.0), (-9.0, 9.0), F.mse_loss, [{}]),
}
SHAPES = [(0,), (4,), (7, 13), (2, 3, 4), (1031,), (64, 10)]
RTOL = 1e-5


def computed(function, dtype, tensors, reduction, options):
    """Computes the loss and its gradient in one type."""
    x = tensors["input"].astype(dtype)
    x = torch.tensor(x, requires_grad=True)
    others = {name: torch.tensor(tensors[name].astype(dtype)) for name in tensors if name != "input"}
    weight = {"weight": others["weight"]} if "weight" in others else {}
    loss = function(x, others["target"], reduction=reduction, **weight, **options)
    loss.backward(others.get("grad_output", torch.ones_like(loss)))
    return {"loss": loss.detach().numpy(), "grad_input": x.grad.numpy()}


def kind(values):
    """Returns the class of each element: finite, +inf, -inf or NaN."""
    return np.where(np.isnan(values), 3.0, np.where(np.isinf(values), np.sign(values), 0.0))


def case(op, shape, reduction, weighted, upstream, options, out):
    inputs, targets, function, _ = LOSSES[op]
    shown = "x".join(map(str, shape)) or "scalar"
    name = f"{op}_{shown}_{reduction}" + "_w" * weighted + "_gos" * (upstream and reduction != "none")
    name += "".join(f"_{key}{value}" for key, value in options.items())
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tensors = {
        "input": rng.uniform(*inputs, shape).astype(np.float32),
        "target": rng.uniform(*targets, shape).astype(np.float32),
    }
    if weighted:
        tensors["weight"] = rng.uniform(0.0, 2.0, shape).astype(np.float32)
    if upstream:
        tensors["grad_output"] = rng.normal(size=shape if reduction == "none" else ()).astype(np.float32)
    single = computed(function, np.float32, tensors, reduction, options)
    double = computed(function, np.float64, tensors, reduction, options)
    features = [f"reduction_{reduction}"] + ["weight"] * weighted + ["scalar_grad_output"] * (upstream and reduction != "none")
    largest = float(tensors.get("weight", np.ones(1)).max(initial=1.0))
    terms = tensors["input"].size if reduction == "sum" else 1
    metadata = {
        "format_version": "1",
        "name": name,
        "op": op,
        "source": f"pytorch {torch.__version__} cpu",
        "f64_source": f"pytorch {torch.__version__} cpu float64",
        "features": ",".join(features),
        "outputs": "loss,grad_input",
        "reduction": reduction,
        "rtol": str(RTOL),
        "atol_loss": str(1e-7 * largest * terms),
        "atol_grad_input": str(max(1e-9 * float(np.abs(double["grad_input"]).max(initial=0.0)), 1e-37)),
        "class_mismatch": ",".join(
            output for output in single if (kind(single[output]) != kind(double[output].astype(np.float32))).any()
        ),
        "shape": shown,
        **{key: str(value) for key, value in options.items()},
    }
    for output in single:
        tensors[output] = single[output]
        tensors[f"{output}_f64"] = double[output]
    tensors = {key: np.asarray(value, order="C") for key, value in tensors.items()}
    save_file(tensors, out / f"{name}.safetensors", metadata=metadata)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loss", choices=sorted(LOSSES))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    takes_weight = "weight" in inspect.signature(LOSSES[arguments.loss][2]).parameters
    for options in LOSSES[arguments.loss][3]:
        for number, shape in enumerate(SHAPES):
            for reduction in ("none", "mean", "sum"):
                # Every shape with every reduction, some with weights, some with upstream gradients.
                weighted = takes_weight and number % 2 == 1 and reduction != "sum"
                upstream = reduction == "none" or number % 3 == 1
                case(arguments.loss, shape, reduction, weighted, upstream, options, arguments.out)


if __name__ == "__main__":
    main()
