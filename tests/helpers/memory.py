"""How much memory a piece of work takes, in a process of its own."""

import subprocess
import sys
from pathlib import Path

# Not getrusage: its peak is carried over from the process that started this one.
_FRAME = """
import gc, sys
from pathlib import Path
folder = Path(sys.argv[1])
{prepare}

def status(field):
    (line,) = [line for line in open("/proc/self/status") if line.startswith(field)]
    return int(line.split()[1])

gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = status("VmRSS")
try:
{work}
except Exception as error:
    print(type(error).__name__, error)
print((status("VmHWM") - before) // 1024)
"""


def growth(folder: Path, prepare: str, work: str) -> tuple[int, str]:
    """Run some code and measure it.

    Args:
        folder: What the code finds under the name `folder`.
        prepare: Code whose memory does not count, such as imports.
        work: Code that is measured; an error of it is printed.

    Returns:
        Growth of the peak in megabytes, and what was printed.
    """
    indented = "\n".join(f"    {line}" for line in work.strip().splitlines())
    code = _FRAME.format(prepare=prepare, work=indented)
    command = [sys.executable, "-c", code, str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    *printed, megabytes = process.stdout.splitlines()
    return int(megabytes), "\n".join(printed)
