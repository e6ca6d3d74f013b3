"""A small pre-activation ResNet on dm-sonnet: Sonnet's own blocks where it has them. Groups have two blocks each."""

import sonnet as snt
import tensorflow as tf
from sonnet.src.nets.resnet import BottleNeckBlockV2

NORM = {"create_scale": True, "create_offset": True, "decay_rate": 0.9}


class BasicBlock(snt.Module):
    """A 1x1 convolution, then a 3x3 one with the stride, each after batch norm and ReLU."""

    def __init__(self, channels, stride, use_projection, bn_config):
        super().__init__()
        options = {"with_bias": False, "padding": snt.pad.same}
        self._proj_conv = snt.Conv2D(channels, 1, stride, **options) if use_projection else None
        self._conv_0, self._conv_1 = snt.Conv2D(channels, 1, **options), snt.Conv2D(channels, 3, stride, **options)
        self._bn_0, self._bn_1 = snt.BatchNorm(**NORM), snt.BatchNorm(**NORM)

    def __call__(self, x, is_training):
        activated = tf.nn.relu(self._bn_0(x, is_training))
        shortcut = x if self._proj_conv is None else self._proj_conv(activated)
        return shortcut + self._conv_1(tf.nn.relu(self._bn_1(self._conv_0(activated), is_training)))


class Network(snt.Module):
    """Stem, groups of two blocks, batch norm, ReLU, mean, linear."""

    def __init__(self, bottleneck):
        super().__init__()
        self.bottleneck = bottleneck
        self.stem = snt.Conv2D(64, 3, with_bias=False, padding=snt.pad.same)
        kind, factor = (BottleNeckBlockV2, 4) if bottleneck else (BasicBlock, 1)
        config = {"decay_rate": 0.9}
        self.blocks = [
            kind(factor * width, stride=stride if i == 0 else 1, use_projection=i == 0, bn_config=config)
            for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2))
            for i in range(2)
        ]
        self.norm, self.fc = snt.BatchNorm(**NORM), snt.Linear(10)

    def __call__(self, x, is_training):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, is_training=is_training)
        return self.fc(tf.reduce_mean(tf.nn.relu(self.norm(x, is_training)), [1, 2]))


def norm_arrays(name, norm):
    """Arrays of a batch norm by PyTorch's names."""
    yield f"{name}.weight", norm.scale
    yield f"{name}.bias", norm.offset
    yield f"{name}.running_mean", tf.reshape(norm.moving_mean.value, [-1])
    yield f"{name}.running_var", tf.reshape(norm.moving_variance.value, [-1])


def arrays(model):
    """All variables by this project's names, in TensorFlow's layout."""
    yield "stem.weight", model.stem.w
    for number, block in enumerate(model.blocks):
        name = f"groups.{number // 2}.{number % 2}"
        for i in range(3 if model.bottleneck else 2):
            yield f"{name}.convs.{i}.weight", getattr(block, f"_conv_{i}").w
            yield from norm_arrays(f"{name}.norms.{i}", getattr(block, f"_bn_{i}"))
        if number % 2 == 0:
            yield f"{name}.projection.weight", block._proj_conv.w
    yield from norm_arrays("norm", model.norm)
    yield "fc.weight", model.fc.w
    yield "fc.bias", model.fc.b
