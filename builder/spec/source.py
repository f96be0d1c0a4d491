"""Where the model comes from: a closed union by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from builder.spec.base import Arguments, FilePath, ImportPath, Part, PositiveInt, Seed, Sha256


class TorchvisionSource(Part):
    """A torchvision model by name, with its published weights, a local file of weights, or seeded ones."""

    kind: Literal["torchvision"]
    name: str
    """A name of `torchvision.models.list_models()`, such as `mobilenet_v2`."""
    weights: str | None = None
    """A member of the model's weights enum (`IMAGENET1K_V2`, `DEFAULT`); null builds without pretrained weights."""
    file: FilePath | None = None
    """A local file of weights (`.safetensors`, `.pth`) to load instead of downloading."""
    state_dict_key: str | None = None
    """The entry of `file` that holds the state dict, such as `state_dict` or `model`; dots descend."""
    strip_prefix: str = ""
    """A prefix to remove from every key of the state dict, such as `module.`."""
    sha256: Sha256 | None = None
    """The digest that the weights file must have."""
    arguments: Arguments = {}
    """Further keyword arguments of the model's builder function, such as `num_classes`."""
    offline: Literal["error", "seeded"] = "error"
    """What to do when the weights cannot be downloaded: fail, or build with untrained, seeded weights."""
    seed: Seed = 0
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
    strict: bool = True
    """Whether file and model must have the same names; `false` leaves out of the file what the model has not, and
    leaves as the factory makes it what the file has not. Both are listed under `source` in build.json."""
    sha256: Sha256 | None = None
    trust_pickle: bool = False
    """Allow the file to be unpickled in full, which runs code that it contains."""


class PythonSource(Part):
    """A user's factory that returns a `torch.nn.Module`."""

    kind: Literal["python"]
    factory: ImportPath
    arguments: Arguments = {}
    seed: Seed = 0
    """The seed set before the factory is called."""


class TorchScriptSource(Part):
    """A TorchScript archive, written by `torch.jit.save`; its structure is fixed, so it takes no substitutions."""

    kind: Literal["torchscript"]
    file: FilePath
    sha256: Sha256 | None = None
    """The digest that the file must have."""


class ExportedProgramSource(Part):
    """A `.pt2` file, written by `torch.export.save`; its structure is fixed, so it takes no substitutions."""

    kind: Literal["exported_program"]
    file: FilePath
    sha256: Sha256 | None = None
    """The digest that the file must have."""


class OnnxSource(Part):
    """An ONNX file, run by onnxruntime and converted directly; the recipe's inputs and outputs are those of the file.

    Dimensions that the file leaves open take the sizes of the recipe. Needs `pip install 'coreml-builder[onnx]'`.
    """

    kind: Literal["onnx"]
    file: FilePath
    """An `.onnx` file; external data is read from beside it."""
    sha256: Sha256 | None = None
    """The digest that the file must have."""
    open_batch: bool = False
    """Whether the app chooses the batch, the first size of its inputs, which the file fixes. It is tried first."""
    dequantize: bool = False
    """Whether a file that is quantized dynamically is computed in float, with its weights as they are."""


class TimmSource(Part):
    """A timm model by name, with its published weights, a local file of weights, or seeded ones.

    Its data configuration gives mean and std for `from_weights`. Needs `pip install 'coreml-builder[timm]'`.
    """

    kind: Literal["timm"]
    name: str
    """A name of `timm.list_models()` such as `resnet18`, or of `timm.list_pretrained()` such as `resnet18.a1_in1k`."""
    pretrained: bool = False
    """Whether to take the published weights."""
    file: FilePath | None = None
    """A local file of weights (`.safetensors`, `.pth`) to load instead of downloading."""
    state_dict_key: str | None = None
    """The entry of `file` that holds the state dict, such as `state_dict` or `model`; dots descend."""
    strip_prefix: str = ""
    """A prefix to remove from every key of the state dict, such as `module.`."""
    sha256: Sha256 | None = None
    """The digest that the weights file must have."""
    arguments: Arguments = {}
    """Further keyword arguments of `timm.create_model`, such as `num_classes` or `in_chans`."""
    offline: Literal["error", "seeded"] = "error"
    """What to do when the weights cannot be downloaded: fail, or build with untrained, seeded weights."""
    seed: Seed = 0
    """The seed of untrained weights."""
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds without an answer after which a download is given up."""


class HuggingFaceSource(Part):
    """A model of transformers, called with the recipe's inputs by name (`input_ids`, `attention_mask`, …).

    The recipe's outputs choose by name among what the model returns (`logits`, `last_hidden_state`, …). Code that a
    repository brings along is never run. Needs `pip install 'coreml-builder[huggingface]'`.
    """

    kind: Literal["huggingface"]
    folder: FilePath | None = None
    """A local folder written by `save_pretrained`."""
    model: str | None = None
    """The name of a repository on the hub, such as `distilbert/distilbert-base-uncased`, or a local folder."""
    revision: str | None = None
    """The branch, tag or commit of `model`."""
    auto_class: str = "AutoModel"
    """The class of transformers that loads it, such as `AutoModelForSequenceClassification`."""
    config_class: str | None = None
    """The configuration class of an untrained model, such as `BertConfig`: without `folder` and `model`, or offline."""
    arguments: Arguments = {}
    """Keyword arguments of the configuration."""
    part: Literal["encoder", "decoder"] | None = None
    """Of a model that has both, such as Whisper: one of them, an artifact of its own.

    The encoder takes its own inputs (`input_features`); the decoder takes `encoder_hidden_states`, which are the
    encoder's `last_hidden_state`, and those of the whole model that begin with `decoder_`. Parts of one configuration
    and seed have the weights of one model.
    """
    cache_length: PositiveInt | None = None
    """For decoders: keep keys and values of this many tokens, in the buffers `keys` and `values` that `state` names.

    The inputs are then `input_ids` (1, tokens) and `position` (1), which is the number of tokens before them; those of
    `part: decoder` are `decoder_input_ids`, `position` and `encoder_hidden_states`.
    """
    offline: Literal["error", "seeded"] = "error"
    """What to do when `model` cannot be downloaded: fail, or build `config_class` with untrained, seeded weights."""
    seed: Seed = 0
    """The seed of untrained weights."""
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds without an answer after which a download is given up."""


class CoreMLSource(Part):
    """An existing Core ML model: to compress it or to raise its target as it is, or to take it to another format.

    With the file's own format it is not converted again. With another one (`aimodel`, or `mlpackage` for an `.mlmodel`)
    its operators are captured and converted like those of a PyTorch model.

    The recipe's inputs, outputs, classifier and precision must be those of the file.
    """

    kind: Literal["coreml"]
    file: FilePath
    """An `.mlpackage` (ML program) or an `.mlmodel` (neural network)."""
    sha256: Sha256 | None = None
    """The digest that the file must have; for a package the one in its `build.json`, without `sha256:`."""
