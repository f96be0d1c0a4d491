"""Data for checks and calibration: a closed union by `kind`, written in place or named once under `data`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Arguments, FilePath, ImportPath, Part, PositiveInt


class PhotographsData(Part):
    """The two photographs that scikit-learn ships, cut into pieces of the input's size."""

    kind: Literal["photographs"]


class DigitsData(Part):
    """scikit-learn's 1,797 labelled handwritten digits (UCI), enlarged to the input's size."""

    kind: Literal["digits"]
    split: Literal["train", "held_out"] = "held_out"
    """The first 1,437 digits, or the last 360, which come from other writers for the most part."""


class NoiseData(Part):
    """Seeded noise in the range that the input declares."""

    kind: Literal["noise"]


class SoundsData(Part):
    """Synthesised sounds for inputs of floats: speech-like, tones, chords, noise and silence, time along the last axis.

    An input with two axes longer than 1 is given the logarithm of the energy in bands instead, (…, bands, frames).
    Masks are ones up to a length; other inputs are drawn as without data.
    """

    kind: Literal["sounds"]
    rate: PositiveInt = 16000
    """Samples a second."""


class TextIdsData(Part):
    """Synthetic token ids for inputs of integers, as frequent and as often repeated as words are in texts.

    Texts have lengths of their own, with padding behind; masks are ones up to that length.
    """

    kind: Literal["text_ids"]
    pad: Annotated[int, Field(ge=0)] | None = None
    """The id behind the end of a text; the first one unless given."""
    begin: Annotated[int, Field(ge=0)] | None = None
    """The id that a text begins with."""
    end: Annotated[int, Field(ge=0)] | None = None
    """The id that a text ends with."""


class TablesData(Part):
    """Synthetic rows of a table for arrays, columns along the last axis: each with its own scale and distribution."""

    kind: Literal["tables"]


class TextBoxesData(Part):
    """Drawn pictures of text, for image inputs and arrays (1, 3 or 1, H, W): a line where wide, else a page."""

    kind: Literal["text_boxes"]


class FolderData(Part):
    """Pictures in a folder, each given to the model's one input as the app would give it.

    They are turned as their EXIF orientation says. Names that begin with a dot are left out, and so is the CSV file.
    """

    kind: Literal["folder"]
    folder: FilePath
    """Where PNG, JPEG and other pictures that Pillow reads lie, at any depth."""
    labels: Literal["folders"] | FilePath | None = None
    """The right answers: `folders` takes the name of the outermost sub-folder; a CSV file says `file,label` in its
    first line and names each picture, relative to `folder`, with its label."""
    resize: Literal["from_weights", "crop", "stretch"] | PositiveInt | None = None
    """How a picture gets the input's size; null takes only pictures that have it.

    A number is that of pixels to which the shorter side is scaled before the input's size is cut out of the centre,
    and `from_weights` takes the number that the weights publish. `crop` scales until the input's size is just covered
    (Vision's centerCrop), `stretch` changes the proportions (scaleFill).
    """
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """How `resize` scales, with antialiasing; as the weights publish with `from_weights`, else bilinear."""


class TensorsData(Part):
    """Arrays in a `.npz` or `.safetensors` file, one for each input by its name, with samples along the first axis.

    Each sample has the shape of the input, or that without a leading 1. A picture is uint8, (height, width, 3) in RGB
    or (height, width) in grey, of the input's size.
    """

    kind: Literal["tensors"]
    file: FilePath
    labels: Annotated[str, Field(min_length=1)] = "labels"
    """The array of right answers, where there is one: names of classes, or their numbers from 0."""


class PythonData(Part):
    """What a user's factory returns: a sequence, or an iterator, of samples.

    A sample is a mapping from inputs to pictures (Pillow) or arrays, or a pair of that and a label: the name of a
    class or its number from 0. Pictures and arrays must be as the inputs declare them.
    """

    kind: Literal["python"]
    factory: ImportPath
    """Called with `arguments` and `files`; with the same of both it must return the same."""
    arguments: Arguments = {}
    files: dict[str, FilePath] = {}
    """Files and folders that the factory reads, passed to it as paths by these names: their content counts."""


Data = Annotated[
    PhotographsData
    | DigitsData
    | NoiseData
    | SoundsData
    | TextIdsData
    | TablesData
    | TextBoxesData
    | FolderData
    | TensorsData
    | PythonData,
    Field(discriminator="kind"),
]

UNLABELLED = (PhotographsData, NoiseData, SoundsData, TextIdsData, TablesData, TextBoxesData)
"""Kinds that have no right answers."""

DataName = Annotated[str, Field(min_length=1)]
"""A name under `data` of the recipe."""
