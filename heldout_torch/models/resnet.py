"""ResNet50 as Sonnet builds it (version 1), the network of the ImageNet experiment."""

from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet

from heldout_torch.models.padding import MaxPool2dSame


class ResNet50(ResNet):
    """torchvision's ResNet50 with one layer replaced: the stem's max pool pads as TensorFlow's SAME.

    Sonnet's convolutions pad symmetrically whatever their stride, as torchvision's do; only the pool differs. At 224
    pixels it pads (0, 1) where torchvision pads (1, 1). Names are torchvision's, so the weights load into
    `torchvision.models.resnet50` too, but there the logits shift by 1 to 3 % at 224 pixels.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=num_classes)
        self.maxpool = MaxPool2dSame(3, stride=2)

    def forward_features(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, h, w) to what enters the last layer, (n, 2048)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (n, 3, h, w) to logits (n, num_classes)."""
        return self.fc(self.forward_features(x))
