"""Hours of trouble: damaged inputs, kills at random moments, calls that fail, writers and readers of one bucket.

Usage: python -m tests.soak [inputs] [kills] [faults] [writers], all by default; exits 1 if a promise was broken.
"""

import argparse
import sys

from tests.soak import faults, inputs, kills, writers


def main() -> int:
    """Run what is asked for, and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="inputs, kills, faults, writers (default: all)")
    parser.add_argument("--mutants", type=int, default=10_000, help="of each format (default: 10000)")
    parser.add_argument("--formats", nargs="+", help="only these")
    parser.add_argument("--kills", type=int, default=500, help="over all verbs (default: 500)")
    parser.add_argument("--verbs", nargs="+", help="only these cases")
    parser.add_argument("--calls", type=int, default=12, help="of each kind that fail, in each case (default: 12)")
    parser.add_argument("--rounds", type=int, default=50, help="of writers (default: 50)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    parts = options.parts or ["inputs", "kills", "faults", "writers"]
    if unknown := set(parts) - {"inputs", "kills", "faults", "writers"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    bad = 0
    if "kills" in parts:  # before threads are about: it forks
        bad += kills.soak(options.kills, options.seed, options.verbs)
    if "faults" in parts:
        bad += faults.soak(options.calls, options.seed, options.verbs)
    if "writers" in parts:
        bad += writers.soak(options.rounds)
    if "inputs" in parts:
        bad += inputs.soak(options.mutants, options.seed, options.formats)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
