"""Names of files that end in capitals, as some systems write them, say the same as others."""

import numpy as np
import pytest

from heldout_torch import list_runs
from heldout_torch.archives.build_index import build_index
from heldout_torch.cli import main
from heldout_torch.experiments import find_experiment
from heldout_torch.stats import load_indices, load_pairs, load_scores, save_indices
from heldout_torch.zoo import sample_zoo
from tests.helpers.archives import EXPERIMENT, pack

SAMPLE = str(sample_zoo())
ZOO = [SAMPLE, "--experiment", EXPERIMENT]


@pytest.mark.parametrize("suffix", ["NPZ", "CSV", "PARQUET"])
def test_results_are_written_and_read(suffix, tmp_path):
    """They were refused, or read as another kind."""
    for statistic, load in (("memorization", load_scores), ("pairs", load_pairs)):
        upper, lower = tmp_path / f"{statistic}.{suffix}", tmp_path / f"{statistic}.{suffix.lower()}"
        for path in (upper, lower):
            assert main(["stats", statistic, *ZOO, "--empty-zero", "--out", str(path)]) == 0
        assert upper.read_bytes() == lower.read_bytes()
        assert repr(load(upper)) == repr(load(lower))
    indices = tmp_path / f"keep.{suffix}"
    save_indices(indices, np.array([3, 5]), "published", "digits", 1437)
    assert load_indices(indices, "published")[0].tolist() == [3, 5]
    by = ["--by", str(tmp_path / f"memorization.{suffix}"), "--fraction", "0.5"]
    assert main(["stats", "keep", *by, "--out", str(indices)]) == 0
    if suffix == "CSV":
        assert main(["stats", "accuracy", *ZOO, "--out", str(tmp_path / "accuracy.CSV")]) == 0


def test_arrays_networks_archives_and_declarations_are_read(tmp_path):
    np.save(tmp_path / "scores.npy", np.linspace(0, 1, 9))
    (tmp_path / "scores.npy").rename(tmp_path / "scores.NPY")
    assert len(load_scores(tmp_path / "scores.NPY").scores) == 9
    archive = pack(sample_zoo(), tmp_path / "RUNS.TAR.GZ")
    build_index(archive)
    assert len(list_runs(archive)) == 6
    words = ["declare", "mine", "--architecture", "mlp", "--config", '{"widths": [4]}', "--dataset", "digits"]
    assert main([*words, "--out", str(tmp_path / "mine.toml")]) == 0
    (tmp_path / "mine.toml").rename(tmp_path / "mine.TOML")
    assert find_experiment(tmp_path / "mine.TOML").name == "mine"


def test_the_weights_of_a_network_are_evaluated(tmp_path, capsys):
    (tmp_path / "W.SAFETENSORS").write_bytes(b"")
    assert main(["evaluate", str(tmp_path / "W.SAFETENSORS"), "--out", str(tmp_path / "a.npz")]) == 1
    assert "holds no runs" not in (said := capsys.readouterr().err)
    assert "expected a place of runs" not in said
