"""A few bytes of memory that processes of one host share, by a file of that size.

Precedes: `progress` of an executor, `host_page` of all.
"""

import mmap
import os
from pathlib import Path


def shared_page(path: Path, size: int) -> mmap.mmap:
    """Raises OSError when there is no room: a page that cannot be written would kill whoever touches it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
