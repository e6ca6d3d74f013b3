"""`README.md` of a zoo on the Hub, its card: which runs there are, how good, the licence, and how to load them."""

import json
import re
from collections.abc import Mapping

from heldout_torch.experiments import Experiment
from heldout_torch.zoo.keys import RunKey, RunNumbers
from heldout_torch.zoo.manifest import Manifest

CARD_FILE = "README.md"
_MARK = "<!-- Written by heldout_torch, and written anew with the manifest. Remove this line to keep your own text. -->"
_SPECIAL = re.compile(r"[^\w .,:/()+=-]", re.ASCII)
_RUNS = 60  # letters of a list of runs
_CITATION = """@inproceedings{feldman2020neural,
  title = {What Neural Networks Memorize and Why: Discovering the Long Tail via Influence Estimation},
  author = {Feldman, Vitaly and Zhang, Chiyuan},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020}
}
@inproceedings{jiang2021characterizing,
  title = {Characterizing Structural Regularities of Labeled Data in Overparameterized Models},
  author = {Jiang, Ziheng and Zhang, Chiyuan and Talwar, Kunal and Mozer, Michael C.},
  booktitle = {International Conference on Machine Learning},
  year = {2021}
}"""


def is_generated(text: bytes) -> bool:
    """Return whether a card was written here, not by a person."""
    return _MARK.encode() in text


def card(manifest: Manifest, experiments: Mapping[str, Experiment], location: str) -> bytes:
    """Return the card of a zoo; equal zoos give equal bytes.

    Args:
        manifest: The zoo's, not empty.
        experiments: What the names in it mean.
        location: The zoo's URL.
    """
    first = min(manifest.runs)
    name = location.rpartition("/")[2].partition("@")[0]
    groups = sorted({(key.experiment, key.subset_ratio) for key in manifest.runs})
    rows = [_row(*group, experiments[group[0]], manifest) for group in groups]
    size = sum(record.size for record in manifest.runs.values()) / 1e6
    example = f"{json.dumps(first.experiment)}, {first.subset_ratio!r}, {first.run}, zoo={json.dumps(location)}"
    return f"""---
license: apache-2.0
pretty_name: {json.dumps(name)}
tags:
- heldout-torch
- memorization
- influence
---
{_MARK}

# {_escaped(name)}

{len(manifest.runs)} held-out training runs ({size:,.1f} MB): networks that were each trained on a random subset of a
training set, and which examples each of them trained on and classifies correctly.

| experiment | data set | network | subset ratio | runs | accuracy: trained on | held out | test |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Accuracies are means over the runs.

## Load

```sh
pip install heldout-torch
heldout zoo list {location}
heldout zoo pull {location}
```

```python
from heldout_torch import load_run

run = load_run({example})
```

Each file is checked against the SHA-256 in its run's record. A revision, `{location.partition("@")[0]}@COMMIT`, names
one state of the zoo for good.

## Licence and citation

Apache 2.0, unless the owner of this data set says otherwise. Whoever uses the runs or their statistics cites:

```bibtex
{_CITATION}
```
""".encode()


def _row(name: str, ratio: float, experiment: Experiment, manifest: Manifest) -> str:
    keys = [key for key in manifest.runs if (key.experiment, key.subset_ratio) == (name, ratio)]
    numbers = str(RunNumbers.of([key.run for key in keys]))
    runs = f"{len(keys)} ({numbers})" if len(numbers) <= _RUNS else str(len(keys))
    cells = [name, experiment.dataset, experiment.architecture, repr(ratio), runs, *_accuracies(keys, manifest)]
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _accuracies(keys: list[RunKey], manifest: Manifest) -> list[str]:
    texts = []
    for part in range(3):
        values = [value for key in keys if (value := manifest.runs[key].accuracy[part]) is not None]
        texts.append(f"{sum(values) / len(values):.4f}" if values else "-")
    return texts


def _escaped(text: str) -> str:
    """Return a text that Markdown and HTML show as it is, in one cell of a table."""
    return _SPECIAL.sub(lambda letter: f"&#{ord(letter[0])};", text)
