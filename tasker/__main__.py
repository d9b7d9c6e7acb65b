"""`python -m tasker`: the command, where no script of it is on the PATH."""

from __future__ import annotations

from tasker.cli.main import main

if __name__ == "__main__":
    main()
