"""The values of an examination: what every probe found, and what follows for the machine. They know no probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from metst_edge import __version__

FORMAT = 1
"""Of the JSON; another number where a reader of it must change."""


@dataclass(frozen=True)
class Finding:
    """What one probe found.

    Attributes:
        name: stable, for programs.
        state: "ok", "missing", "wrong", or "unneeded": not there, and of no use here.
        text: what was found.
        fix: a command, or what else to do; empty where nothing is to be done.
        details: the same for programs, as plain JSON values.
    """

    name: str
    state: str
    text: str
    fix: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """What the examination of a machine found.

    Attributes:
        findings: in the order in which they are shown.
        engines: name -> why it does not run here, empty where it does.
        blocked: what keeps everything from running, None where video can be analysed on the CPU.
    """

    findings: tuple[Finding, ...]
    engines: Mapping[str, str]
    blocked: str | None

    @property
    def flow(self) -> str:
        """Where optical flow is measured unless told otherwise: "cuda" or "cpu"."""
        plugin = any(finding.name == "plugin" and finding.state == "ok" for finding in self.findings)
        runs = "" in (self.engines.get("tensorrt"), self.engines.get("cuda"))
        return "cuda" if plugin and runs else "cpu"

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain JSON values."""
        return {
            "format": FORMAT,
            "version": __version__,
            "runs": self.blocked is None,
            "blocked": self.blocked,
            "engines": {name: {"runs": not why, "why": why or None} for name, why in self.engines.items()},
            "flow": self.flow,
            "findings": [asdict(finding) for finding in self.findings],
        }
