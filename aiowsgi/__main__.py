"""``python -m aiowsgi``: the command line, where no script is installed."""

import sys

from aiowsgi.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
