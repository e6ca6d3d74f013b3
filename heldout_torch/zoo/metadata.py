"""The metadata of a run, stored in the header of `model.safetensors`.

The header has one key, `heldout_torch`, with sorted JSON as its value. With several keys, safetensors would write them
in an order that varies, and so would the hash of the file.
"""

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Self

from heldout_torch.errors import ZooError
from heldout_torch.experiments import Experiment
from heldout_torch.zoo.dtypes import check_dtype
from heldout_torch.zoo.keys import RunKey, make_key

FORMAT_VERSION = 1
_HEADER_KEY = "heldout_torch"
_TYPES: dict[str, Any] = {
    "experiment": str, "dataset": str, "subset_ratio": float, "run": int, "architecture": str, "config": dict,
    "preprocessing": dict, "epoch": int, "global_step": int, "source_sha256": str, "recipe": dict,
    "dtype": str, "data_sha256": str, "ignored": list,
}  # fmt: skip


@dataclass(frozen=True)
class RunMetadata:
    """Metadata of one run.

    Attributes:
        experiment: Name of the experiment.
        dataset: Name of the data set.
        subset_ratio: Share of the training set that the run saw.
        run: Number of the run.
        architecture: A name of `heldout_torch.models.list_models()`.
        config: Options of the architecture.
        preprocessing: How images are preprocessed for the network, as the experiment declares it.
        epoch: Epochs trained; None if the source does not say.
        global_step: Optimizer steps made; None if the source does not say.
        source_sha256: SHA-256 over the TensorFlow checkpoint's index file, then its shards in order; None for runs
            that come from no checkpoint.
        recipe: How this package trained the run, the fields of `heldout_torch.training.Recipe`; None if it did not.
        ignored: Patterns of checkpoint variables that were left out on request; None if there were none.
        data_sha256: Digest of the data set that this package trained the run on, see
            `heldout_torch.data.Dataset.digest`; None for runs of others, and of older versions, which kept none.
        dtype: `bfloat16` or `float16` if weights are stored in it; None for float32.
        archive: For a run read from a packed archive, what the seek index says about the archive: `size`, `md5`, `etag`
            if it is on a server, and `index_sha256` if the index was checked by it. Otherwise None. It is not stored in
            files, because the files of a run are the same wherever it comes from.
        format_version: Version of this record.
    """

    experiment: str
    dataset: str
    subset_ratio: float
    run: int
    architecture: str
    config: dict[str, Any] = field(hash=False)
    preprocessing: dict[str, Any] = field(hash=False)
    epoch: int | None = None
    global_step: int | None = None
    source_sha256: str | None = None
    recipe: dict[str, Any] | None = field(default=None, hash=False)
    ignored: list[str] | None = field(default=None, hash=False)
    data_sha256: str | None = None
    dtype: str | None = None
    archive: dict[str, Any] | None = field(default=None, hash=False)
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        key: RunKey,
        epoch: int | None = None,
        global_step: int | None = None,
        source_sha256: str | None = None,
        recipe: dict[str, Any] | None = None,
        ignored: list[str] | None = None,
        data_sha256: str | None = None,
    ) -> Self:
        """Describe a run of an experiment."""
        return cls(
            experiment=experiment.name,
            dataset=experiment.dataset,
            subset_ratio=key.subset_ratio,
            run=key.run,
            architecture=experiment.architecture,
            config=experiment.config,
            preprocessing=experiment.preprocessing,
            epoch=epoch,
            global_step=global_step,
            source_sha256=source_sha256,
            recipe=recipe,
            ignored=ignored,
            data_sha256=data_sha256,
        )

    @property
    def key(self) -> RunKey:
        """The run that this is about."""
        return RunKey(self.experiment, self.subset_ratio, self.run)

    def to_header(self) -> dict[str, str]:
        """Return the metadata of a safetensors file."""
        return {_HEADER_KEY: json.dumps(self.to_record(), sort_keys=True)}

    def to_record(self) -> dict[str, Any]:
        """Return the fields as JSON keeps them; those that older files lack only if they are set."""
        record = asdict(self)
        del record["archive"]
        for name in ("ignored", "data_sha256", "dtype"):
            if record[name] is None:
                del record[name]
        return record

    @classmethod
    def from_header(cls, header: Any, name: str) -> Self:
        """Read the metadata of a safetensors file.

        Args:
            header: What safetensors gives.
            name: What errors call the file.

        Raises:
            ZooError: If the record is missing, damaged, or of a newer format.
        """
        try:
            record = json.loads(header[_HEADER_KEY])
        except (KeyError, TypeError, ValueError, RecursionError):
            raise ZooError(f"{name}: was not written by heldout_torch (no record of the run in its header)") from None
        return cls.from_record(record, name)

    @classmethod
    def from_record(cls, record: Any, name: str) -> Self:
        """Read the fields as JSON gives them.

        Raises:
            ZooError: If fields are missing, unknown or of another type, or the format is newer.
        """
        if not isinstance(record, dict) or "format_version" not in record:
            raise ZooError(f"{name}: holds no record of a run")
        if record["format_version"] != FORMAT_VERSION:
            found = record["format_version"]
            raise ZooError(f"{name}: has format version {found!r:.99}, this package reads {FORMAT_VERSION}; upgrade it")
        known = {field.name: field for field in fields(cls) if field.name != "archive"}
        required = {name for name, field in known.items() if field.default is MISSING}
        if not required <= set(record) <= set(known):
            listed = ", ".join(sorted(map(str, record)))[:200]
            raise ZooError(f"{name}: the record of the run has fields {listed}, not those of its format")
        for entry, kind in _TYPES.items():
            value = record.get(entry)
            if value is None and entry not in required:
                continue
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ZooError(f"{name}: field {entry!r} of the record is {value!r:.100}, which is of the wrong type")
        check_dtype(record.get("dtype"), name)
        try:
            make_key(record["experiment"], record["subset_ratio"], record["run"])
        except ZooError as error:
            raise ZooError(f"{name}: {error}") from None
        return cls(**record)
