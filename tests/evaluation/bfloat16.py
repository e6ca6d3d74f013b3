"""bfloat16 on processors that lack it: float32 whose weights, and outputs of every layer, are rounded to bfloat16.

Sums are float32 in both, so the errors are of the same kind and size.
"""

import copy

import torch
from torch import nn

from heldout_torch.evaluation import precision


def rounded(tensor):
    return tensor.bfloat16().float()


def emulated_copy(copied, model, images, dtype):
    """Stands for `lower_copy`."""
    with torch.inference_mode():
        low = copy.deepcopy(copied)
        for module in low.modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                for parameter in module.parameters(recurse=False):
                    parameter.copy_(rounded(parameter))
                module.register_forward_hook(lambda module, inputs, output: rounded(output))
    low.register_forward_pre_hook(lambda _, inputs: inputs[0].float())
    return low


def use_bfloat16(monkeypatch):
    """See that "fast" computes in bfloat16 on the CPU, a real or an emulated one, whether it is faster or not."""
    monkeypatch.setattr(precision.InferenceNetwork, "is_faster", lambda *_: True)
    if not precision.has_bfloat16(torch.device("cpu")):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
        monkeypatch.setattr(precision, "lower_copy", emulated_copy)
