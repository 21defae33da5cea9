"""``python -m tunmesh``."""

import sys

from tunmesh.cli import main

sys.exit(main())
