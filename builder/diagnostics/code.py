"""What is known of one code: its title, what it means and what to do, and a small project that meets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RECIPE = """\
source:
  kind: torchvision
  name: mobilenet_v2
input:
  image:
    kind: image
    shape: [1, 3, 32, 32]
    scale: 1
"""
"""A recipe for examples that never load a model."""

NET = """\
import torch


def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU())
"""
"""A model that is small enough to be built in an example."""

NET_RECIPE = """\
source:
  kind: python
  factory: net:net
input:
  x:
    kind: tensor
    shape: [1, 4]
tracking:
  kind: none
"""


@dataclass(frozen=True, kw_only=True)
class Example:
    """Files in an empty folder, and commands of which the last one meets the code."""

    files: Mapping[str, str] = field(default_factory=dict)
    """By path; a path that ends with `/` is an empty folder."""
    commands: tuple[str, ...] = ("recipe=x",)
    """Arguments of `python -m builder`; one that begins with `python ` runs a script of the folder."""
    without: tuple[str, ...] = ()
    """Packages that must not be installed for it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are set for its commands."""
    apart: bool = False
    """Whether it ends the process that runs it."""
    slow: bool = False
    """Whether it takes more than a few seconds."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """One row of the table of codes."""

    code: str
    title: str
    text: str
    """What it means and what to do about it: paragraphs of Markdown."""
    example: Example | None
    """None for a few warnings that depend on the machine."""

    @property
    def exit_code(self) -> int:
        """How the command ends: the two digits after B; 0 for a warning."""
        return int(self.code[1:3])


def recipe(*added: str, base: str = RECIPE, commands: tuple[str, ...] = ("recipe=x",), **files: str) -> Example:
    """An example of one recipe `x`: `base` and the lines that are wrong; `files` are by name without `.py`."""
    more = {f"{name}.py": content for name, content in files.items()}
    return Example(files={**more, "recipes/x.yaml": base + "".join(f"{line}\n" for line in added)}, commands=commands)


def net(
    *added: str,
    base: str = NET_RECIPE,
    source: str = NET,
    commands: tuple[str, ...] = ("recipe=x",),
    environment: Mapping[str, str] | None = None,
    slow: bool = False,
) -> Example:
    """An example of a recipe `x` for the small model, or for the one that `source` makes."""
    return Example(
        files={"net.py": source, "recipes/x.yaml": base + "".join(f"{line}\n" for line in added)},
        commands=commands,
        environment=environment or {},
        slow=slow,
    )
