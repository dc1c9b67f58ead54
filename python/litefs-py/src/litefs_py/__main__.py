"""`python -m litefs_py`: the program itself, in this process's place."""

import os
import sys

from litefs_py.adapters.binary import find_program
from litefs_py.domain.errors import BinaryNotFound


def main() -> None:
    """Does not return."""
    try:
        program = find_program()
    except BinaryNotFound as error:
        sys.exit(f"litefs-py: {error}")
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == "__main__":
    main()
