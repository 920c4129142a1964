"""What the benches ask of the machine: a port, and what a process costs."""

import os
import re
import socket

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    """User and kernel time so far."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mib(pid):
    found = re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())
    return int(found[1]) / 1024 if found else 0.0
