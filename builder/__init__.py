"""A build system for on-device Apple models: a recipe in, a proven artifact out.

`build`, `plan` and `load` are the command line's engine for Python (`builder.api`); they are imported when first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.api import build, load, plan

__all__ = ["__version__", "build", "load", "plan"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in ("build", "load", "plan"):
        from builder import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
