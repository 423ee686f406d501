"""`python -m engine.cli`: how jobs are started, with nothing of the console loaded."""

import sys

from engine.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
