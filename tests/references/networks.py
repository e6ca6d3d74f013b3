"""The published networks on dm-sonnet, from their description, with variables of the published names."""

import sonnet as snt
import tensorflow as tf


class ConvUnit(snt.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels, kernel, stride=1):
        super().__init__()
        self.conv = snt.Conv2D(channels, kernel, stride, padding="SAME", with_bias=False)
        self.bn = snt.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.999)

    def __call__(self, x, is_training):
        return tf.nn.relu(self.bn(self.conv(x), is_training=is_training))


class Block(snt.Module):
    """A 1x1 and a 3x3 branch, concatenated."""

    def __init__(self, channels_1x1, channels_3x3):
        super().__init__()
        self.conv1x1 = ConvUnit(channels_1x1, 1)
        self.conv3x3 = ConvUnit(channels_3x3, 3)

    def __call__(self, x, is_training):
        return tf.concat([self.conv1x1(x, is_training), self.conv3x3(x, is_training)], axis=-1)


class Stage(snt.Module):
    """Blocks, then a unit of stride 2."""

    def __init__(self, blocks, downsample):
        super().__init__()
        self._body = [Block(*channels) for channels in blocks]
        if downsample:
            self._downsample = ConvUnit(downsample, 3, 2)
        self.has_downsample = bool(downsample)

    def __call__(self, x, is_training):
        for block in self._body:
            x = block(x, is_training)
        return self._downsample(x, is_training) if self.has_downsample else x


class SmallInception(snt.Module):
    """The CIFAR network; images are (n, h, w, c)."""

    def __init__(self, num_classes, large_inputs=False):
        super().__init__()
        self.large_inputs = large_inputs
        self.conv1 = ConvUnit(96, 7, 2) if large_inputs else ConvUnit(96, 3)
        self.stage1 = Stage([(32, 32), (32, 48)], 160)
        self.stage2 = Stage([(112, 48), (96, 64), (80, 80), (48, 96)], 240)
        self.stage3 = Stage([(176, 160), (176, 160)], None)
        self._pred = snt.Linear(num_classes)

    def __call__(self, x, is_training):
        x = self.conv1(x, is_training)
        if self.large_inputs:
            x = tf.nn.max_pool2d(x, 3, 2, padding="SAME")
        for stage in (self.stage1, self.stage2, self.stage3):
            x = stage(x, is_training)
        return self._pred(tf.reduce_max(x, axis=[1, 2]))


class MLP(snt.nets.MLP):
    """Sonnet's MLP over flattened images, with the others' signature."""

    def __call__(self, x, is_training):
        return super().__call__(tf.reshape(x, [x.shape[0], -1]))


def build(architecture, num_classes, large_inputs=False, widths=()):
    """Build a network by this project's name for it."""
    if architecture == "resnet50":
        return snt.nets.ResNet50(num_classes)
    if architecture == "mlp":
        return MLP([*widths, num_classes])
    return SmallInception(num_classes, large_inputs)


def randomize(model, seed):
    """Give every variable a value that an error would not survive; averages and hidden states differ."""
    random = tf.random.Generator.from_seed(seed)
    for variable in model.variables:
        name = variable.name
        if "counter" in name:
            variable.assign(1000 + seed)
        elif "moving_variance" in name or "scale" in name:
            variable.assign(random.uniform(variable.shape, 0.5, 1.5))
        elif variable.shape.rank in (2, 4) and "moving_mean" not in name:
            fan_in = tf.cast(tf.reduce_prod(variable.shape[:-1]), tf.float32)
            variable.assign(random.normal(variable.shape) * tf.sqrt(2.0 / fan_in))
        else:
            variable.assign(random.normal(variable.shape) * 0.2)
