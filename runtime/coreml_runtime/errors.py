"""The errors of the runtime: one class for each thing that a caller can do about it."""


class RuntimeFailure(Exception):  # noqa: N818 - the family of errors, named apart from the builtin RuntimeError
    """What every error of this package is."""

    def __init__(self, *arguments: object, hint: str | None = None) -> None:
        """`hint` says what to do next."""
        super().__init__(*arguments)
        self.hint = hint


class ModelError(RuntimeFailure):
    """The file is damaged or is not a Core ML model; the message says where and what was found."""


class UnsupportedError(RuntimeFailure):
    """The model is sound but needs something that this runtime lacks; all of it is named at once."""


class InputError(RuntimeFailure, ValueError):
    """An input of a prediction is missing or wrong; the message says what was expected."""


class PredictionError(RuntimeFailure, RuntimeError):
    """An operator failed while it ran; the message names the operator and its output."""
