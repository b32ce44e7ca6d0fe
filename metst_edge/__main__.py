"""``python -m metst_edge`` is ``metst-edge``."""

import sys

from metst_edge.app.cli import main

sys.exit(main())
