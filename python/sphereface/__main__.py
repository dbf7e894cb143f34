"""``python -m sphereface``: the command line."""

import sys

from sphereface.cli.main import main

sys.exit(main())
