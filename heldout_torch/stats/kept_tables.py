"""Run tables kept beside other results, and used again only while the runs are those that they were made of."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from heldout_torch.errors import DataError, counted
from heldout_torch.stats.run_table import RunTable
from heldout_torch.stats.table_files import read_source
from heldout_torch.stats.table_rows import read_aux
from heldout_torch.zoo.base import Zoo
from heldout_torch.zoo.keys import AUX_FILE, RunKey


def kept_table(folder: Path, zoo: Zoo, keys: Sequence[RunKey]) -> RunTable:
    """Return the table of runs of one subset ratio, out of a folder where it was kept, or made and kept there.

    A kept table is used while the hashes in the runs' records are those of when it was made. Where there are no hashes,
    in a TensorFlow tree or archive, the table is made anew each time.

    Args:
        folder: Where it is kept.
        zoo: Where the runs are.
        keys: The runs.

    Raises:
        DataError: If the folder holds a table of other runs than those asked for, or something else.
        ZooError: As `RunTable.from_zoo`.
    """
    source = _source_of(zoo, keys)
    if folder.exists():
        table = RunTable.load(folder)
        if table.keys != tuple(map(str, keys)):
            raise DataError(
                f"{folder}: holds {counted(table.runs, 'run')}, not the {len(keys)} asked for; remove it, or give "
                "another --table"
            )
        if source is not None and read_source(folder) == source:
            return table
    table = RunTable.from_aux(read_aux(zoo, keys), keys)
    table.save(folder, source)
    return table


def _source_of(zoo: Zoo, keys: Sequence[RunKey]) -> str | None:
    """Return the SHA-256 over the names of runs and the hashes of their aux arrays; None if there are no hashes."""
    hashes = [zoo.record(key).files[AUX_FILE].sha256 for key in keys]
    if None in hashes:
        return None
    return hashlib.sha256(json.dumps([list(map(str, keys)), hashes]).encode()).hexdigest()
