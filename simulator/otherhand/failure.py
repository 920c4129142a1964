"""What ends the program with a sentence rather than a traceback. Exit codes are those of ../shared/contracts/commands.md."""

FAILED = 1
WRONG_USAGE = 64
NOT_THERE = 69


class Failure(Exception):
    """Names operation and subject."""

    def __init__(self, message, code=FAILED):
        super().__init__(message)
        self.code = code
