"""`python -m builder completion SHELL`: what makes bash, zsh and fish complete command lines of builder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.cli.arguments import Parser
from builder.errors import ConfigurationError
from builder.util.suggest import did_you_mean
from builder.util.text import visible

SHELLS = {"bash": "completion.bash", "zsh": "completion.zsh", "fish": "completion.fish"}
"""By shell, the script beside this file."""

DESCRIPTION = """Print what makes a shell complete verbs, options, recipes, groups, keys and their values, behind both
`builder` and `python -m builder`. Add the line of your shell to what it reads when it starts:

  bash   eval "$(python -m builder completion bash)"              # ~/.bashrc
  zsh    eval "$(python -m builder completion zsh)"               # ~/.zshrc, behind compinit
  fish   python -m builder completion fish | source               # ~/.config/fish/config.fish

With --line, print the words that may stand at the end of a command line instead, each with its meaning behind a tab.
"""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("completion", DESCRIPTION, usage="completion SHELL [--line TEXT]")
    made.add_argument("shell", metavar="SHELL", help="bash, zsh or fish")
    made.add_argument("--line", metavar="TEXT", help="a command line up to the cursor, `builder` included")
    return made


def run(arguments: Sequence[str]) -> int:
    """Print a script or candidates; returns the exit code."""
    given = parser().read(arguments)
    if given.shell not in SHELLS:
        hint = did_you_mean(given.shell, SHELLS) or f"shells: {', '.join(SHELLS)}"
        raise ConfigurationError(f"there is no completion for {given.shell}", code="B0225", hint=hint)
    if given.line is None:
        print(Path(__file__).with_name(SHELLS[given.shell]).read_text(encoding="utf-8"), end="")
        return 0
    from builder.cli.candidates import candidates

    try:
        found = candidates(given.line)
    except ConfigurationError:  # two recipes of one name, say: the build says it, a press of the tab key does not
        found = []
    for word, meaning in found:
        print(visible(word if given.shell == "bash" else f"{word}\t{meaning}".rstrip()))
    return 0
