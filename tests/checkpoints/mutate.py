"""Feed damaged checkpoints to the reader, in a process whose memory is limited.

Usage: mutate.py FOLDER COUNT SEED
Prints how many mutants ended in CheckpointError and how many gave the original tensors; exits 1 at anything else, or
when one takes more than a second or 200 MB.
"""

import random
import resource
import sys
import time
from pathlib import Path

import google_crc32c

from heldout_torch.checkpoints import Checkpoint
from heldout_torch.checkpoints.wire import read_varint
from heldout_torch.errors import CheckpointError

LIMIT = 200 * 2**20


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Flip, replace, insert, delete, repeat or cut bytes."""
    kind = chance.randrange(6)
    if kind == 0:
        return data[: chance.randrange(len(data))]
    position = chance.randrange(len(data))
    end = min(len(data), position + chance.choice([1, 1, 2, 8, 64]))
    replacement = {
        1: bytes([data[position] ^ 1 << chance.randrange(8)]) + data[position + 1 : end],
        2: chance.randbytes(end - position),
        3: data[position:end] * 2,
        4: b"",
        5: bytes(chance.choice([0, 0x7F, 0x80, 0xFF]) for _ in range(end - position)),
    }[kind]
    return data[:position] + replacement + data[end:]


def resealed(index: bytes, first_block: int) -> bytes:
    """Give a damaged first block a good checksum, so that what it holds reaches the parser."""
    crc = google_crc32c.value(index[: first_block + 1])
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return index[: first_block + 1] + masked.to_bytes(4, "little") + index[first_block + 5 :]


def main() -> None:
    """Try the mutants."""
    folder, count, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    index = (folder / "ckpt-1.index").read_bytes()
    shards = [path.read_bytes() for path in sorted(folder.glob("ckpt-1.data-*"))]
    original = {key: value.tobytes() for key, value in Checkpoint(index, shards).items()}
    first_block = read_varint(index[-48:], 0)[0] - 5  # where the metaindex begins, less the first block's trailer
    assert resealed(index, first_block) == index
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, used + LIMIT))
    errors = unharmed = sealed_changed = 0
    for number in range(count):
        mutant_index, mutant_shards, sealed = index, list(shards), number % 4 == 3
        if sealed:
            position = chance.randrange(first_block)
            size = chance.choice([1, 1, 2, 4])
            junk = chance.choice([chance.randbytes(size), b"\xff" * size, b"\x00" * size])
            changed = index[:position] + junk + index[position + size :]
            mutant_index = resealed(changed, first_block)
        elif number % 2:
            shard = chance.randrange(len(shards))
            mutant_shards[shard] = mutated(shards[shard], chance)
        else:
            mutant_index = mutated(index, chance)
        start = time.process_time()
        try:
            tensors = {key: value.tobytes() for key, value in Checkpoint(mutant_index, mutant_shards).items()}
            if tensors == original:
                unharmed += 1
            else:
                assert sealed, f"mutant {number} gave other tensors"  # with a forged checksum nobody could know
                sealed_changed += 1
        except CheckpointError as error:
            errors += "\n" not in str(error)
        assert time.process_time() - start < 1, f"mutant {number} took more than a second"
    print(errors, unharmed, sealed_changed)


main()
