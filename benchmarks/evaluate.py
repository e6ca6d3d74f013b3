"""Evaluation against TensorFlow in a process of its own, on the same cores, turn by turn.

    python benchmarks/evaluate.py [--trained FOLDER] [--device cuda]

Prints images/s as medians, the ratio to TensorFlow, and the share of the rate that one large convolution reaches.
What "fast" gains depends on how many margins are small, so it needs a trained network: FOLDER is what
`tests/references/cifar_run.py FOLDER cifar10 ...` wrote. Without it, only "exact" is measured. `--device` is ours:
TensorFlow computes where its build does.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REFERENCES = Path(__file__).resolve().parent.parent / "tests" / "references"
ROUNDS = 5
GIGA_OPERATIONS = {"small_inception": 0.587, "resnet50": 8.2}  # of one image; a multiply-add counts as two
# Number and size. Real splits are larger still; with few images, packing the weights would be what is timed.
IMAGES = {"small_inception": (9000, 32), "resnet50": (320, 224)}
TENSORFLOW_BATCH = {"small_inception": 100, "resnet50": 32}  # the fastest of those tried

_PEER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import networks, numpy as np, tensorflow as tf
architecture, path, batch = sys.argv[2], sys.argv[3], int(sys.argv[4])
images = np.load(path)
model = networks.build(architecture, 10 if architecture == "small_inception" else 1000)
model(tf.zeros([2, *images.shape[1:]]), is_training=True)
run = tf.function(lambda x: model(x, is_training=False))
def predict():
    return np.concatenate([tf.argmax(run(tf.constant(images[i : i + batch])), 1) for i in range(0, len(images), batch)])
predict()
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    predict()
    print(time.perf_counter() - start, flush=True)
"""


def main() -> int:
    """Measure both networks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trained", type=Path, metavar="FOLDER", help="a trained SmallInception and its data")
    parser.add_argument("--device", default="cpu", help="where we compute, default: cpu")
    options = parser.parse_args()
    trained = options.trained
    if trained is not None and not (trained / "cifar10-tiny").is_dir():
        print(f"error: {trained} holds no cifar10-tiny; tests/references/cifar_run.py writes it", file=sys.stderr)
        return 1
    import torch

    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for architecture in IMAGES:
        _compare(architecture, trained if architecture == "small_inception" else None, options.device)
    return 0


def _compare(architecture: str, trained: Path | None, device: str) -> None:
    import torch

    from heldout_torch.archives.convert import convert_run
    from heldout_torch.data import ArrayDataset, Split, load_dataset
    from heldout_torch.evaluation import evaluate
    from heldout_torch.experiments import Experiment
    from heldout_torch.models import build_model
    from heldout_torch.zoo.keys import RunKey
    from heldout_torch.zoo.load import model_from_state

    count, size = IMAGES[architecture]
    classes = 10 if architecture == "small_inception" else 1000
    model, precisions = build_model(architecture, num_classes=classes), ["exact"]
    pixels = np.random.RandomState(0).randint(256, size=(count, 3, size, size)).astype(np.uint8)
    if trained is not None:
        found = load_dataset("cifar10", trained / "data", verify_checksums=False).train.images.numpy()  # type: ignore
        pixels = np.resize(found, (count, *found.shape[1:]))  # over and over
        experiment = Experiment("cifar10-tiny", "cifar10", architecture, {"num_classes": 10}, len(found), 0)
        run = next((trained / "cifar10-tiny" / "0.7").iterdir())
        state, metadata = convert_run(run, experiment, RunKey("cifar10-tiny", 0.7, int(run.name)), ignore=[])
        model, precisions = model_from_state(state, metadata, str(run)), ["exact", "fast"]
    n = len(pixels)
    rows = Split(torch.from_numpy(pixels), torch.zeros(n, dtype=torch.int64), torch.arange(n), torch.arange(n))
    dataset = ArrayDataset("images", rows, rows, classes, divide_by=255.0).to(device)
    seconds: dict[str, list[float]] = {name: [] for name in ("TensorFlow", *precisions)}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", pixels.transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255))
        with subprocess.Popen(
            [sys.executable, "-c", _PEER, str(REFERENCES), architecture, f"{folder}/images.npy",
             str(TENSORFLOW_BATCH[architecture])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        ) as peer:  # fmt: skip
            assert peer.stdin is not None
            assert peer.stdout is not None
            assert peer.stdout.readline() == "ready\n"
            for _ in range(ROUNDS):
                peer.stdin.write("\n")
                seconds["TensorFlow"].append(float(peer.stdout.readline()))
                for precision in precisions:
                    start = time.perf_counter()
                    evaluation = evaluate(model, dataset, "train", device=device, precision=precision)  # type: ignore[arg-type]
                    seconds[precision].append(time.perf_counter() - start)
                    if precision == "fast":
                        print(f"  fast: {evaluation.redone} of {n} redone, error {evaluation.error:.3f}")
            peer.stdin.close()
    peak = _convolution_rate(device)
    for name, times in seconds.items():
        rate = n / statistics.median(times)
        share = rate * GIGA_OPERATIONS[architecture] / peak
        ratios = [theirs / ours for theirs, ours in zip(seconds["TensorFlow"], times, strict=True)]
        print(
            f"{architecture} {name}: {rate:.1f} images/s, {statistics.median(ratios):.2f} x TensorFlow "
            f"({min(ratios):.2f} ... {max(ratios):.2f}), {share:.0%} of {peak:.0f} GFLOP/s (one convolution, float32)"
        )


def _convolution_rate(device: str) -> float:
    """Measure GFLOP/s of one large float32 convolution, best of several."""
    import torch

    from heldout_torch.evaluation.inference import layout_for
    from heldout_torch.float32 import float32_only

    layout = layout_for(torch.device(device), torch.float32)
    convolution = torch.nn.Conv2d(512, 512, 3, padding=1).to(device).to(memory_format=layout)
    x = torch.rand(16, 512, 32, 32).to(device).contiguous(memory_format=layout)
    times = []
    with torch.inference_mode(), float32_only():
        for _ in range(5):
            start = time.perf_counter()
            convolution(x)[0, 0, 0, 0].item()  # which waits for a GPU
            times.append(time.perf_counter() - start)
    return 2 * 9 * 512 * 512 * 32 * 32 * 16 / 1e9 / min(times)


if __name__ == "__main__":
    sys.exit(main())
