"""`heldout experiment`: what it says of the most memorized examples and the strongest pairs is what its files say."""

import json
import re

import numpy as np

from heldout_torch.cli import main
from heldout_torch.data import load_digits


def test_what_is_said_is_what_the_files_say(tmp_path, capsys):
    recipe, out = tmp_path / "quick.toml", tmp_path / "out"
    recipe.write_text("epochs = 4\nbatch_size = 64\nlearning_rate = 0.1\n")
    words = ["experiment", "digits-mlp", "--subset-ratio", "0.5", "--runs", "0-11", "--zoo", str(tmp_path / "zoo")]
    words += ["--device", "cpu", "--recipe", str(recipe), "--out", str(out)]
    assert main(words) == 0
    said, digits = capsys.readouterr().out, load_digits()
    with np.load(out / "memorization-0.5.npz") as file:
        scores, labels = file["scores"], file["labels"]
    assert int(re.search(r"0\.5: (\d+) examples? memorized", said)[1]) == (scores >= np.float32(0.25)).sum()
    named = re.findall(r"(\d+) \(label (\d)\): (-?[\d.]+)", said.partition("memorized")[2].partition("\n")[0])
    assert np.isnan(scores).any()  # of examples that no run held out, or all did
    assert [score for *_, score in named] == [f"{-score:.2f}" for score in np.sort(-scores)[:5]]
    assert all(labels[int(index)] == int(label) for index, label, _ in named)
    with np.load(out / "pairs-0.5.npz") as file:
        pairs = {
            (int(i), int(j)): float(x) for i, j, x in zip(file["tr_idx"], file["tt_idx"], file["infl"], strict=True)
        }
    named = re.findall(r"train (\d+) on test (\d+) \(label (\d)\): ([\d.]+)", said)
    assert len(named) == min(5, len(pairs)) > 0
    for train, test, label, influence in named:
        assert digits.labels("test")[int(test)] == int(label)
        assert f"{pairs[int(train), int(test)]:.2f}" == influence
    strongest = sorted(pairs.values(), reverse=True)[:5]
    assert [influence for *_, influence in named] == [f"{influence:.2f}" for influence in strongest]
    assert main([*words, "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]["ratios"] == [0.5]
