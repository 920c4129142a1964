"""Makes labelled recordings of fleets with stragglers, and scores a collector on them."""

import sys

from .arguments import parse
from .failure import Failure

INTERRUPTED = 130


def main():
    arguments = parse()
    try:
        return arguments.run(arguments)
    except Failure as failure:
        print(f"otherhand: {failure}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
