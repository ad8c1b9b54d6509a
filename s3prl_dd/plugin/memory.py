"""How much memory this machine has left."""

import os
from pathlib import Path


def free_memory() -> float:
    """Bytes that a process may still take without swapping; infinity where the system does not say."""
    table = Path("/proc/meminfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):  # what caches would give back counts
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")
