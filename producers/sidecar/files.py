"""What may be asked of a file that others move and remove meanwhile."""

from pathlib import Path


def changed_ns(path: Path) -> int:
    """When it was written last; 0 of a file that is gone or cannot be seen: opening it says why."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
