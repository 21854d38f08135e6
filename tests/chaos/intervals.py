"""Pure: stretches of time in which something was disturbed, and what was calm between them. Milliseconds."""

from collections.abc import Iterable

Interval = tuple[int, int]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time in as few intervals as it takes, in order."""
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def calm(disturbed: Iterable[Interval], begin: int, end: int) -> int:
    """The longest undisturbed stretch between `begin` and `end`."""
    longest, since = 0, begin
    for start, stop in merged(disturbed):
        if stop < begin:
            continue
        if start > end:
            break
        longest = max(longest, start - since)
        since = max(since, stop)
    return max(longest, end - since)
