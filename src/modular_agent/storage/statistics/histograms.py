"""Histograms as numbers: they are added, and taken away from one another, by the arithmetic of Python's integers.

Bucket `b` (`rollups.bucket`) is counted in 32 bits of the number, from bit `32 * b` on.
"""

import math
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import add
from typing import Final

from modular_agent.storage.rollups import bucket_value

__all__ = ["counts_of", "histogram_of", "histograms_of", "percentiles"]

BITS: Final = 32
BYTES: Final = BITS // 8


def histogram_of(numbers: Sequence[int], counts: Sequence[int]) -> int:
    """The histogram with these counts of the buckets with these numbers, each of which occurs once."""
    if not numbers:
        return 0
    first = min(numbers)
    row = [0] * (max(numbers) + 1)
    deque(map(row.__setitem__, numbers, counts), maxlen=0)
    return _number(first, row[first:])


def histograms_of(keys: Sequence[str], numbers: Sequence[int]) -> Mapping[str, int]:
    """The histogram of each key, of values with these keys and in these buckets."""
    if not numbers:
        return {}
    first = min(numbers)
    width = max(numbers) - first + 1
    starts = {key: place * width - first for place, key in enumerate(dict.fromkeys(keys))}
    row = [0] * (width * len(starts))
    for place in map(add, map(starts.__getitem__, keys), numbers):
        row[place] += 1
    return {key: _number(first, row[start + first : start + first + width]) for key, start in starts.items()}


def counts_of(histogram: int) -> Mapping[int, int]:
    """The counts of the buckets that are not empty."""
    first, row = _row(histogram)
    return {first + place: count for place, count in enumerate(row) if count}


def percentiles(histogram: int, shares: Sequence[float]) -> list[float] | None:
    """The nearest-rank percentiles of rising shares, in µs, each within 1 %; None of nothing."""
    if not histogram:
        return None
    first, row = _row(histogram)
    seen = list(accumulate(row))
    ranks = (max(1, math.ceil(share * seen[-1])) for share in shares)
    return [bucket_value(first + bisect_left(seen, rank)) for rank in ranks]


def _number(first: int, row: Sequence[int]) -> int:
    """The histogram with the counts of the row, which begins with the bucket `first`."""
    return int.from_bytes(struct.pack(f"<{len(row)}I", *row), "little") << (BITS * first)


def _row(histogram: int) -> tuple[int, Sequence[int]]:
    """The first bucket that may be counted in, and the counts from there on."""
    first = ((histogram & -histogram).bit_length() - 1) // BITS if histogram else 0
    histogram >>= BITS * first
    length = -(-histogram.bit_length() // BITS)
    return first, struct.unpack(f"<{length}I", histogram.to_bytes(length * BYTES, "little"))
