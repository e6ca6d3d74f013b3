"""One bit a run: rows of 0/1 over many runs, packed into 64-bit words.

Word w of an example holds runs 64 w ... 64 w + 63, the first in the lowest bit. Bits behind the last run are 0.
"""

import sys

import numpy as np

WORD_BITS = 64


def word_count(runs: int) -> int:
    """Give the number of words that hold one bit for each of some runs."""
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


def _native(words: np.ndarray) -> np.ndarray:
    return words if sys.byteorder == "little" else words.astype(np.uint64)
