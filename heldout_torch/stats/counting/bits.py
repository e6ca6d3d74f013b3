"""One bit a run: rows of 0/1 over many runs, packed into 64-bit words.

Word w of an example holds runs 64 w ... 64 w + 63, the first in the lowest bit. Bits behind the last run are 0.
"""

import sys
from collections.abc import Iterator

import numpy as np

WORD_BITS = 64
CHUNK_BITS = 2**27


def word_count(runs: int) -> int:
    """Return the number of words that hold one bit for each of some runs."""
    return -(-runs // WORD_BITS)


def pack(bits: np.ndarray) -> np.ndarray:
    """Pack bits of shape (examples, runs), bool, into words of shape (examples, words), uint64."""
    examples, runs = bits.shape
    packed = np.zeros((examples, word_count(runs) * WORD_BITS // 8), np.uint8)
    packed[:, : -(-runs // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return _native(packed.view("<u8"))  # (examples, words)


def pack_runs(rows: np.ndarray) -> np.ndarray:
    """Pack at most 64 runs, bool of shape (runs, examples), into one word an example, uint64 of shape (examples,)."""
    packed = np.zeros((rows.shape[1], WORD_BITS // 8), np.uint8)  # (examples, 8)
    packed[:, : -(-len(rows) // 8)] = np.packbits(rows, axis=0, bitorder="little").T
    return _native(packed.view("<u8"))[:, 0]


def unpack(words: np.ndarray, runs: int) -> np.ndarray:
    """Unpack words of shape (examples, words) into bits of shape (examples, runs), bool."""
    little = np.ascontiguousarray(words).astype("<u8", copy=False)
    bits = np.unpackbits(little.view(np.uint8), axis=1, count=runs, bitorder="little")
    return bits.view(bool)  # (examples, runs)


def count_by_run(words: np.ndarray, runs: int) -> np.ndarray:
    """Count the examples whose bit is 1 for each run, int64 of shape (runs,)."""
    counts = np.zeros(runs, np.int64)
    for part in chunks(len(words), runs):
        counts += np.count_nonzero(unpack(words[part], runs), axis=0)
    return counts


def unpack_runs(words: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Unpack some runs.

    Args:
        words: uint64 of shape (examples, words).
        rows: int64 of shape (k,), which of them.

    Returns:
        bool of shape (k, examples).
    """
    bits = np.empty((len(rows), len(words)), bool)
    if not len(rows):
        return bits
    columns, place = np.unique(rows // WORD_BITS, return_inverse=True)  # only these words are read
    within = place * WORD_BITS + rows % WORD_BITS
    for part in chunks(len(words), WORD_BITS * len(columns)):
        bits[:, part] = unpack(words[part][:, columns], WORD_BITS * len(columns))[:, within].T
    return bits  # (k, examples)


def repack(parts: list[tuple[np.ndarray, int]], rows: np.ndarray) -> np.ndarray:
    """Pack some runs of several tables anew.

    Args:
        parts: uint64 of shape (examples, words) and the number of runs in it, for each table.
        rows: int64 of shape (k,), positions among the runs of all of them.

    Returns:
        uint64 of shape (examples, words of k runs).
    """
    total = sum(count for _, count in parts)
    packed = [
        pack(np.concatenate([unpack(words[part], count) for words, count in parts], axis=1)[:, rows])
        for part in chunks(len(parts[0][0]), total)
    ]
    return np.concatenate([np.zeros((0, word_count(len(rows))), np.uint64), *packed])  # (examples, words)


def chunks(examples: int, runs: int) -> Iterator[slice]:
    """Yield slices of the examples, of which some runs' bits fit well into memory when unpacked."""
    step = max(1, CHUNK_BITS // runs)
    for start in range(0, examples, step):
        yield slice(start, start + step)


def _native(words: np.ndarray) -> np.ndarray:
    return words if sys.byteorder == "little" else words.astype(np.uint64)
