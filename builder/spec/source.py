"""Where the model comes from: a closed union by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Arguments, FilePath, ImportPath, Part, Sha256


class TorchvisionSource(Part):
    """A torchvision model by name, with its published weights, a local file of weights, or seeded ones."""

    kind: Literal["torchvision"]
    name: str
    """A name of `torchvision.models.list_models()`, such as `mobilenet_v2`."""
    weights: str | None = None
    """A member of the model's weights enum (`IMAGENET1K_V2`, `DEFAULT`); null builds without pretrained weights."""
    file: FilePath | None = None
    """A local state dict (`.safetensors`, `.pth`) to load instead of downloading."""
    sha256: Sha256 | None = None
    """The digest that the weights file must have."""
    arguments: Arguments = {}
    """Further keyword arguments of the model's builder function, such as `num_classes`."""
    offline: Literal["error", "seeded"] = "error"
    """What to do when the weights cannot be downloaded: fail, or build with untrained, seeded weights."""
    seed: int = 0
    """The seed of untrained weights."""
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds without an answer after which a download is given up."""


class CheckpointSource(Part):
    """A file written by `torch.save` (or safetensors): a state dict for a factory, or a whole pickled module."""

    kind: Literal["checkpoint"]
    file: FilePath
    factory: ImportPath | None = None
    """Makes the module that the state dict is loaded into; null when the file holds a whole module."""
    arguments: Arguments = {}
    """Keyword arguments of the factory."""
    state_dict_key: str | None = None
    """The entry of the file that holds the state dict, such as `state_dict` or `model`; dots descend."""
    strip_prefix: str = ""
    """A prefix to remove from every key of the state dict, such as `module.`."""
    sha256: Sha256 | None = None
    trust_pickle: bool = False
    """Allow the file to be unpickled in full, which runs code that it contains."""


class PythonSource(Part):
    """A user's factory that returns a `torch.nn.Module`."""

    kind: Literal["python"]
    factory: ImportPath
    arguments: Arguments = {}
    seed: int = 0
    """The seed set before the factory is called."""


Source = Annotated[TorchvisionSource | CheckpointSource | PythonSource, Field(discriminator="kind")]
