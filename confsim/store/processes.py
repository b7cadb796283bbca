"""Which process wrote something, and whether it still lives: by the process table of this boot."""

import os
import socket
import sys
from pathlib import Path


def boot() -> str:
    """Name what shares our process table: this boot, and this namespace of process ids."""
    if sys.platform != "linux":
        return socket.gethostname()
    try:
        number = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{number}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def started(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; ``None`` if dead, "" if unknown."""
    if sys.platform != "linux":
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass
        return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return ""
    return None if fields[0] in "ZX" else fields[19]
