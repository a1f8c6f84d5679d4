"""What a workspace prints: any process in it may write to the line that leads from its container to the journal."""

# Standard output of the container is the unit's own line to journald. code-server holds it, and dan may take what code-server
# holds: both run as the same user. Gives `line` its number in the process that this is played in.
TAKE = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
line = None
for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
    try:
        target = os.readlink(f"/proc/{pid}/fd/1")
    except OSError:
        continue
    if target.startswith("socket:"):
        fd = libc.syscall(438, libc.syscall(434, pid, 0), 1, 0)
        if fd >= 0:
            line = fd
            break
if line is None:
    sys.exit("no process whose output goes to the journal can be reached")
"""

# Standard input, byte for byte.
PRINT = (
    TAKE
    + r"""
text = sys.stdin.buffer.read()
while text:
    text = text[os.write(line, text):]
"""
)
