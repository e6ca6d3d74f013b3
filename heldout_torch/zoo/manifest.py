"""`manifest.json` at the root of a zoo: a list of its runs, compiled from a listing and the runs' own records.

    {"format_version": 1, "experiments": {"cifar10-inception": {
        "declaration": null,
        "archive": {"md5": "…", "name": "cifar10-inception.tar.gz", "size": 239000000000, "verified": true},
        "runs": {"0.7": {"12": {
            "accuracy": [0.99, 0.84, 0.86],
            "epoch": 80,
            "files": {"aux_arrays.npz": [91000, "<sha256>"], "model.safetensors": [7600000, "<sha256>"]},
            "seen": "5e0c1a77 09f3b2d4 77aa01c2"}}}}}}

A run takes about 300 bytes. The manifest is needed for places that cannot be listed, such as web servers, and makes
reading faster. If a run is not in it, readers look for the run's own record. `declaration` is the `experiment.json` of
an experiment that the package does not declare. `seen` is a digest of the state of the run's files when the record was
read, see `heldout_torch.zoo.indexing`.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Self

from heldout_torch.errors import ZooError, counted, one_line
from heldout_torch.storage.kinds import stands_in
from heldout_torch.zoo.keys import RunKey, make_key
from heldout_torch.zoo.records import RunRecord

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST = 2**28  # bytes: 800,000 runs
FORMAT_VERSION = 1


@dataclass
class Manifest:
    """A zoo's manifest.

    Attributes:
        runs: Records by run, in order.
        seen: By run, what stands for the state of its files, where that is known.
        declarations: By experiment, the contents of its `experiment.json`, where it has one.
        archives: By experiment, the contents of its `archive.json`, where it has one.
    """

    runs: dict[RunKey, RunRecord] = field(default_factory=dict)
    seen: dict[RunKey, str] = field(default_factory=dict)
    declarations: dict[str, Any] = field(default_factory=dict)
    archives: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Manifest of {counted(f'{len(self.runs):,}', 'run')}>"

    @classmethod
    def if_readable(cls, data: bytes | None) -> Self:
        """Read a manifest; return an empty one if there is none, or if it cannot be read."""
        try:
            return cls() if data is None else cls.from_bytes(data, MANIFEST_FILE)
        except ZooError:
            return cls()

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Read a manifest, trusting nothing in it.

        Args:
            data: Contents of the file.
            name: What errors call it.

        Raises:
            ZooError: If it is damaged or of another format.
        """
        manifest = cls()
        try:
            if len(data) > MAX_MANIFEST:
                raise ValueError(f"more than {MAX_MANIFEST} bytes")
            table = json.loads(data)
            if (version := table["format_version"]) != FORMAT_VERSION:
                raise ZooError(f"{name}: has format version {version!r:.100}, this package reads {FORMAT_VERSION}")
            for experiment, part in table["experiments"].items():
                for ratio, runs in part["runs"].items():
                    for run, record in runs.items():
                        key = make_key(experiment, float(ratio), int(run))
                        if key in manifest.runs:
                            raise ValueError(f"run {key} is there twice")
                        manifest.runs[key] = RunRecord.from_json(record)
                        if isinstance(seen := record.get("seen"), str):
                            manifest.seen[key] = seen
                if part["declaration"] is not None:
                    manifest.declarations[experiment] = part["declaration"]
                if part["archive"] is not None:
                    manifest.archives[experiment] = part["archive"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = stands_in(data) or f" ({type(error).__name__}: {one_line(error)[:100]})"
            raise ZooError(f"{name}: is not a readable manifest{reason}") from None
        return manifest

    def to_bytes(self) -> bytes:
        """Return the contents of the file; equal manifests give equal bytes."""
        experiments: dict[str, Any] = {}
        for key in sorted(self.runs):
            experiment = experiments.setdefault(
                key.experiment,
                {
                    "archive": self.archives.get(key.experiment),
                    "declaration": self.declarations.get(key.experiment),
                    "runs": {},
                },
            )
            entry = self.runs[key].to_json()
            if key in self.seen:
                entry["seen"] = self.seen[key]
            experiment["runs"].setdefault(repr(key.subset_ratio), {})[str(key.run)] = entry
        table = {"format_version": FORMAT_VERSION, "experiments": experiments}
        return json.dumps(table, separators=(",", ":")).encode() + b"\n"
