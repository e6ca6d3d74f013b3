"""Entry points for `torch.hub.load`: each gives one run's network, or the network untrained."""

dependencies = ["torch", "torchvision", "numpy", "safetensors", "fsspec", "filelock", "tqdm", "google_crc32c"]


def _load(experiment, subset_ratio, run, zoo, device):
    from heldout_torch.models import build_model
    from heldout_torch.zoo import known_experiments, load_run

    if run is None:
        known = known_experiments()[experiment]
        return build_model(known.architecture, **known.config).to(device)
    return load_run(experiment, subset_ratio, run, zoo, device).model


def cifar10_inception(subset_ratio=0.7, run=None, zoo=None, device="cpu"):
    """SmallInception on CIFAR-10: run `run` at `subset_ratio` (0.1 ... 0.9) from `zoo`; untrained if run is None."""
    return _load("cifar10-inception", subset_ratio, run, zoo, device)


def cifar100_inception(subset_ratio=0.7, run=None, zoo=None, device="cpu"):
    """SmallInception on CIFAR-100: run `run` at `subset_ratio` (0.1 ... 0.9) from `zoo`; untrained if run is None."""
    return _load("cifar100-inception", subset_ratio, run, zoo, device)


def imagenet_resnet50(subset_ratio=0.7, run=None, zoo=None, device="cpu"):
    """ResNet50 on ImageNet: run `run` (0 ... 1999) at `subset_ratio` 0.7 from `zoo`; untrained if run is None."""
    return _load("imagenet-resnet50", subset_ratio, run, zoo, device)


def digits_mlp_tf(subset_ratio=0.7, run=None, zoo=None, device="cpu"):
    """Small MLP on scikit-learn's digits: run `run` at `subset_ratio` 0.7 of the bundled sample; untrained if None."""
    return _load("digits-mlp-tf", subset_ratio, run, zoo, device)
