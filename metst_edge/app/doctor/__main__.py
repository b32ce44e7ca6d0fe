"""``python -m metst_edge.app.doctor`` is ``metst-edge doctor``."""

import sys

from metst_edge.app.cli import main

sys.exit(main(["doctor", *sys.argv[1:]]))
