"""What a source tells its user beside its frames: a line each, once, as a warning of the package's log.

Without any handler Python prints such lines to stderr.
"""

from __future__ import annotations

import logging
from functools import lru_cache

_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=1024)
def remark(line: str) -> None:
    """Say a line; what was said before, as of a file that is read a second time, is not said again."""
    _LOG.warning("%s", line)
