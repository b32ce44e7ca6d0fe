"""How a package that is a choice is got: the one place that says so. Imports the standard library only.

metst-edge lies on no index, so its extras (``metst-edge[onnxruntime]``) cannot be named to pip from everywhere. What
they ask for can: pip gets that wherever metst-edge came from, a checkout or a wheel.
"""

from __future__ import annotations

import re
import shlex
from contextlib import suppress

DISTRIBUTION = "metst-edge"


def pip_install(distribution: str) -> str:
    """Return the command that installs what metst-edge asks for of a distribution."""
    return f"pip install {shlex.quote(required(distribution))}"


def required(distribution: str) -> str:
    """Return the requirement as metst-edge states it, such as "numpy<2,>=1.24"; the bare name where it states none."""
    from importlib import metadata  # a tenth of the time that the program takes to start

    with suppress(metadata.PackageNotFoundError):
        for line in metadata.requires(DISTRIBUTION) or ():
            requirement = line.partition(";")[0].strip()
            if re.fullmatch(rf"{re.escape(distribution)}(?![\w-]).*", requirement):
                return requirement
    return distribution
