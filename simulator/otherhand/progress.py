"""How far a long work is, on standard error: a line that is rewritten on a terminal, else one for each tenth."""

import sys
import time


class Progress:
    def __init__(self, doing, total):
        self.doing, self.total, self.done = doing, total, 0
        self.started = time.monotonic()
        self.on_terminal = sys.stderr.isatty()

    def advance(self):
        self.done += 1
        last = self.done == self.total
        tenth = self.done * 10 // self.total > (self.done - 1) * 10 // self.total
        if not (self.on_terminal or tenth):
            return
        line = f"{self.doing}: {self.done} of {self.total}"
        if not last:
            line += f", {self.left()} left"
        print(f"\r\033[K{line}" if self.on_terminal else line, end="" if self.on_terminal and not last else "\n", file=sys.stderr, flush=True)

    def left(self):
        seconds = (time.monotonic() - self.started) / self.done * (self.total - self.done)
        return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
