"""What a machine's files and the child processes tell, before anything is made of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from metst_edge.app import machine
from metst_edge.app.doctor.children import Answer


class Evidence:
    """What probes look at: the machine's files, and what the child processes answered.

    Args:
        root: the folder that /proc, /sys, /etc, /usr, /var and /dev lie in.
        answers: of every question, by its name.
    """

    def __init__(self, root: Path, answers: Mapping[str, Answer]) -> None:
        self.root, self._answers = root, answers

    def answer(self, name: str) -> Answer:
        """Return what the child process found."""
        return self._answers[name]

    def works(self, name: str) -> bool:
        """Return whether the child process could do what it was asked for."""
        return "error" not in self._answers[name]

    @cached_property
    def l4t(self) -> str:
        """Release of Jetson Linux; empty where this is none."""
        return machine.l4t(self.root)

    @cached_property
    def board(self) -> str:
        """What an ARM board calls itself; empty elsewhere."""
        return machine.board(self.root)

    @property
    def jetson(self) -> bool:
        """Whether this is a Jetson."""
        return bool(self.l4t) or "Jetson" in self.board

    @cached_property
    def distribution(self) -> str:
        """ID of /etc/os-release: "debian", "ubuntu" ..."""
        found = re.search(r'^ID="?([\w-]+)', machine.text_of(self.root / "etc/os-release"), re.MULTILINE)
        return found[1] if found else ""

    @cached_property
    def has_apt(self) -> bool:
        """Whether Debian packages can be installed."""
        return self.path("/usr/bin/apt-get").exists()

    @cached_property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU, with or without a driver."""
        if self.jetson or self.works("gpu"):
            return True
        devices = machine.matches(self.root, "sys/bus/pci/devices/*")
        return any(
            machine.text_of(device / "vendor").strip() == "0x10de"
            and machine.text_of(device / "class").startswith("0x03")
            for device in devices
        )

    @cached_property
    def packages(self) -> Mapping[str, str]:
        """Debian packages installed: name -> version."""
        found = {}
        for entry in machine.text_of(self.root / "var/lib/dpkg/status").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", entry, re.MULTILINE))
            if fields.get("Status", "").endswith(" installed"):
                found[fields.get("Package", "")] = fields.get("Version", "")
        return found

    @cached_property
    def nvcc(self) -> Path | None:
        """Where csrc/cuda/enable_cuda.cmake finds nvcc."""
        folders = [os.environ.get(name, "") + "/bin" for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
        folders += os.environ.get("PATH", "").split(os.pathsep)
        places = [self.path(folder) / "nvcc" for folder in folders if folder]
        if os.environ.get("CUDACXX"):
            places.insert(0, self.path(os.environ["CUDACXX"]))
        places.append(self.path("/usr/local/cuda/bin/nvcc"))
        places += reversed(machine.matches(self.root, "usr/local/cuda-*/bin/nvcc"))
        places.append(self.path("/opt/cuda/bin/nvcc"))
        return next((place for place in places if place.is_file()), None)

    def tool(self, name: str) -> Path | None:
        """Return a program on the PATH or where administrators have theirs."""
        folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
        places = (self.path(folder) / name for folder in folders if folder)
        return next((place for place in places if os.access(place, os.X_OK) and place.is_file()), None)

    def path(self, absolute: str) -> Path:
        """Return where an absolute path lies below the root."""
        return self.root / absolute.lstrip("/")

    def unless_useless(self, state: str) -> str:
        """Return ``state``, or "unneeded" where no NVIDIA GPU could use what is missing."""
        return state if self.has_gpu else "unneeded"
