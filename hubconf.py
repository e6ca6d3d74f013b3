"""Entry points for `torch.hub.load`: each gives one run's network, or with `pretrained=False` the network untrained."""

dependencies = ["torch", "numpy", "safetensors"]  # what a run on this machine needs; one under a URL also fsspec[http]


def _load(experiment, subset_ratio, run, zoo, device, pretrained):
    from heldout_torch.devices import any_device
    from heldout_torch.errors import ZooError
    from heldout_torch.experiments import find_experiment
    from heldout_torch.models import build_model
    from heldout_torch.zoo import load_run
    from heldout_torch.zoo.open import open_zoo
    from heldout_torch.zoo.selection import described

    if not pretrained:
        known = find_experiment(experiment)
        return build_model(known.architecture, **known.config).to(any_device(device))
    if run is None:
        place = open_zoo(zoo)
        there = described(place.keys(), experiment, [subset_ratio])
        raise ZooError(
            f"{place.location}: give the run of {experiment}; {there}; pretrained=False gives the network untrained"
        )
    return load_run(experiment, subset_ratio, run, zoo, device).model


def cifar10_inception(subset_ratio=0.7, run=None, zoo=None, device="cpu", pretrained=True):
    """SmallInception on CIFAR-10: run `run` at `subset_ratio` (0.1 ... 0.9) from `zoo`.

    Untrained with `pretrained=False`.
    """
    return _load("cifar10-inception", subset_ratio, run, zoo, device, pretrained)


def cifar100_inception(subset_ratio=0.7, run=None, zoo=None, device="cpu", pretrained=True):
    """SmallInception on CIFAR-100: run `run` at `subset_ratio` (0.1 ... 0.9) from `zoo`.

    Untrained with `pretrained=False`.
    """
    return _load("cifar100-inception", subset_ratio, run, zoo, device, pretrained)


def imagenet_resnet50(subset_ratio=0.7, run=None, zoo=None, device="cpu", pretrained=True):
    """ResNet50 on ImageNet: run `run` (0 ... 1999) at `subset_ratio` 0.7 from `zoo`.

    Untrained with `pretrained=False`.
    """
    return _load("imagenet-resnet50", subset_ratio, run, zoo, device, pretrained)


def digits_mlp_tf(subset_ratio=0.7, run=None, zoo=None, device="cpu", pretrained=True):
    """Small MLP on scikit-learn's digits: run `run` at `subset_ratio` 0.7 of the bundled sample.

    Untrained with `pretrained=False`.
    """
    return _load("digits-mlp-tf", subset_ratio, run, zoo, device, pretrained)
