"""The entry: answers for an unchanged build with the standard library alone, and leaves all else to `builder.cli`."""

import sys

from builder import noop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code (see the contracts in docs for what each means)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        quickly = noop.answer(given)
        if quickly is not None:
            return quickly
        from builder.cli.main import run, run_apart
    except KeyboardInterrupt:  # while a large file is compared: nothing has begun
        print("\ninterrupted: nothing was replaced", file=sys.stderr)
        return 130
    return run_apart(given) if arguments is None else run(given)


if __name__ == "__main__":
    sys.exit(main())
