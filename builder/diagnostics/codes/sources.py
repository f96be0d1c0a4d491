"""B0301 to B0336: models, weights and data that cannot be loaded."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, RECIPE, Code, Example, net, recipe

_CHECKPOINT = NET_RECIPE.replace("kind: python", "kind: checkpoint\n  file: ../net.pth")
_SCRIPT = """\
source: {kind: torchscript, file: ../net.pt}
input: {x: {kind: tensor, shape: [1, 4]}}
tracking: {kind: none}
"""
_DECODER = """\
source:
  kind: huggingface
  auto_class: AutoModelForCausalLM
  config_class: LlamaConfig
  cache_length: 64
  arguments:
    {vocab_size: 16, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2,
     num_key_value_heads: 2, max_position_embeddings: 32}
input:
  input_ids: {kind: tensor, shape: [1, 1], dtype: int32, high: 15}
  position: {kind: tensor, shape: [1], dtype: int32, high: 64}
target: {name: ios18}
state: {keys: {buffer: keys}, values: {buffer: values}}
tracking: {kind: none}
"""
_TABLE = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(64, 2)

    def forward(self, x):
        return self.table(x.abs().long())


net = Net
"""


def _made(script: str, recipe: str) -> Example:
    files = {"make.py": f"import torch\n\n{script}\n", "net.py": NET, "recipes/x.yaml": recipe}
    return Example(files=files, commands=("python make.py", "recipe=x"))


def _data(data: str, *, samples: str = "", more: str = "", net: str = NET, **files: str) -> Example:
    check = f"checks:\n  parity: {{kind: parity, data: mine{samples}}}\n"
    return Example(
        files={"net.py": net, "recipes/x.yaml": f"{NET_RECIPE}data: {{mine: {data}}}\n{check}{more}", **files},
    )


CODES = (
    Code(
        code="B0301",
        title="a file of the model cannot be opened",
        text="The file was there when the recipe was read, and cannot be opened now; or a folder lacks a file that it "
        "must have; or it is not a regular file.",
        example=Example(
            files={
                "net.py": NET,
                "labels.txt/": "",
                "recipes/x.yaml": NET_RECIPE + "classifier: {labels: ../labels.txt}\n",
            }
        ),
    ),
    Code(
        code="B0302",
        title="a file is damaged",
        text="The file is of the right kind and cannot be read: its end is missing, or what is in it contradicts "
        "itself. Copy or download it again.",
        example=Example(
            files={
                "net.py": NET,
                "net.safetensors": "not a file of tensors",
                "recipes/x.yaml": _CHECKPOINT.replace(".pth", ".safetensors"),
            }
        ),
    ),
    Code(
        code="B0303",
        title="a file is of another kind",
        text="What the file holds is not what the recipe says: a web page instead of weights, a pointer of Git LFS, a "
        "program where a state dict is expected. The hint names the kind of source that takes it.",
        example=Example(
            files={"net.py": NET, "net.pth": "<!DOCTYPE html><html></html>", "recipes/x.yaml": _CHECKPOINT}
        ),
    ),
    Code(
        code="B0304",
        title="a file is refused because loading it could run code",
        text="Pickles and archives can call any function while they are loaded. builder loads tensors and what torch "
        "itself writes. Save a state dict; or, for a file that you trust, `trust_pickle: true`.",
        example=_made('torch.save({"weights": print}, "net.pth")', _CHECKPOINT),
    ),
    Code(
        code="B0305",
        title="a digest is another",
        text="The file does not have the SHA-256 that the recipe expects, so it is not the one that the recipe was "
        "written for.",
        example=_made('torch.save({}, "net.pth")', _CHECKPOINT.replace("net.pth", "net.pth\n  sha256: " + "a" * 64)),
    ),
    Code(
        code="B0306",
        title="something cannot be downloaded",
        text="The server cannot be reached, refuses, or stops sending. `source.file` takes a local file instead, and "
        "`source.offline: seeded` builds with untrained weights where there is no network.",
        example=recipe(
            base=RECIPE.replace("mobilenet_v2", "mobilenet_v2\n  weights: IMAGENET1K_V1\n  timeout: 1")
            + "tracking: {kind: none}\n"
        ),
    ),
    Code(
        code="B0308",
        title="a library has no such model, class or weights",
        text="torchvision, timm, transformers or the hub do not know the name. The hint has the nearest that they "
        "know.",
        example=recipe(base=RECIPE.replace("mobilenet_v2", "mobilenet_v9")),
    ),
    Code(
        code="B0309",
        title="a model cannot be made with these arguments",
        text="The library refuses `source.arguments`; the message is the library's own.",
        example=recipe(base=RECIPE.replace("mobilenet_v2", "mobilenet_v2\n  arguments: {colour: red}")),
    ),
    Code(
        code="B0310",
        title="weights do not fit the model",
        text="Names or shapes in the file are others than those of the model: other arguments, a prefix "
        "(`source.strip_prefix`), or another model.",
        example=_made('torch.save({"0.weight": torch.zeros(3, 4), "0.bias": torch.zeros(3)}, "net.pth")', _CHECKPOINT),
    ),
    Code(
        code="B0311",
        title="a checkpoint has no such entry or prefix",
        text="`source.state_dict_key` names the entry of a checkpoint that is the state dict, `source.strip_prefix` "
        "what its names begin with. The screen lists what there is.",
        example=_made(
            'torch.save({"model": {}}, "net.pth")', _CHECKPOINT.replace("net.pth", "net.pth\n  state_dict_key: weights")
        ),
    ),
    Code(
        code="B0312",
        title="a function of yours is not found",
        text="`package.module:function` is imported from the working directory and from what is installed.",
        example=net(base=NET_RECIPE.replace("net:net", "net:nett")),
    ),
    Code(
        code="B0313",
        title="your code raised an error",
        text="Importing or calling the function of the recipe failed. The message names the file and the line.",
        example=net(source="def net():\n    raise ValueError('not today')\n"),
    ),
    Code(
        code="B0314",
        title="a factory returned something else than a module",
        text="A source of kind `python` calls a function that returns a `torch.nn.Module`.",
        example=net(source="def net():\n    return 3\n"),
    ),
    Code(
        code="B0315",
        title="the model takes other inputs",
        text="The recipe's inputs are those of the model, by number and by name. `source_name` says what the model "
        "calls an input that the artifact shall call otherwise.",
        example=_made(
            'torch.jit.save(torch.jit.script(torch.nn.Linear(4, 2)), "net.pt")',
            _SCRIPT.replace("[1, 4]}}", "[1, 4]}, y: {kind: tensor, shape: [1, 4]}}"),
        ),
    ),
    Code(
        code="B0316",
        title="an input of the model has another shape or type",
        text="A model in a file was made for shapes and types, and the recipe gives others. The hint says which.",
        example=_made(
            "model = torch.nn.Linear(4, 2).eval()\n"
            'torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), "net.pt2")',
            _SCRIPT.replace("torchscript", "exported_program").replace("net.pt", "net.pt2").replace("[1, 4]", "[2, 4]"),
        ),
    ),
    Code(
        code="B0318",
        title="a model in a file does what cannot be carried over",
        text="For example operators on quantized integers, inputs of text, values that are kept between calls, or a "
        "program that was exported while training.",
        example=_made(
            "model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout()).train()\n"
            'torch.export.save(torch.export.export(model, (torch.zeros(1, 4),)), "net.pt2")',
            _SCRIPT.replace("torchscript", "exported_program").replace("net.pt", "net.pt2"),
        ),
    ),
    Code(
        code="B0319",
        title="a decoder cannot keep its cache in states",
        text="`cache_length` needs a decoder whose layers keep keys and values of one shape, with at least so many "
        "positions.",
        example=Example(files={"recipes/x.yaml": _DECODER}, slow=True),
    ),
    Code(
        code="B0320",
        title="the weights publish no such thing",
        text="Labels, mean and standard deviation or the way of scaling come with some published weights. Where they "
        "do not, the recipe says them itself.",
        example=recipe(
            base=RECIPE.replace(
                "mobilenet_v2", "mobilenet_v2\n  weights: IMAGENET1K_V1\n  offline: seeded\n  timeout: 1"
            )
            .replace("[1, 3", "[1, 1")
            .replace("    scale: 1\n", "    color_layout: G\n    from_weights: true\n")
            + "tracking: {kind: none}\n"
        ),
    ),
    Code(
        code="B0330",
        title="data cannot be read",
        text="The folder has no pictures, or a file of data is damaged or of a kind that is not read.",
        example=_data("{kind: tensors, file: ../values.npz}", **{"values.npz": "not an archive"}),
    ),
    Code(
        code="B0331",
        title="a sample does not fit the input",
        text="A picture or array of the data has another size, type, or values than the input declares.",
        example=_data(
            "{kind: python, factory: 'mine:samples'}",
            **{"mine.py": "import numpy\n\n\ndef samples():\n    return [{'x': numpy.zeros((1, 5), 'float32')}]\n"},
        ),
    ),
    Code(
        code="B0332",
        title="labels of data are missing or unknown",
        text="Each sample has one label, which is a class of the model.",
        example=_data(
            "{kind: python, factory: 'mine:samples'}",
            more="  right: {kind: accuracy, data: mine}\nclassifier: {labels: [cat, dog]}\n",
            **{"mine.py": "import numpy\n\n\ndef samples():\n    return [({'x': numpy.zeros((1, 4), 'f')}, 'bird')]\n"},
        ),
    ),
    Code(
        code="B0333",
        title="there are too few samples",
        text="The data has fewer samples than the check or the compression asks for.",
        example=_data(
            "{kind: python, factory: 'mine:samples'}",
            samples=", samples: 5",
            **{"mine.py": "import numpy\n\n\ndef samples():\n    return [{'x': numpy.zeros((1, 4), 'float32')}]\n"},
        ),
    ),
    Code(
        code="B0334",
        title="data of yours does not have the form of samples",
        text="A sample is a mapping from every input to a value, or a pair of that and a label; a file of tensors has "
        "one array for each input, all with as many samples.",
        example=_data(
            "{kind: python, factory: 'mine:samples'}", **{"mine.py": "def samples():\n    return [{'y': 1}]\n"}
        ),
    ),
    Code(
        code="B0335",
        title="the original model fails on its data",
        text="The data fits what the inputs declare, and the model still raises an error: an index beyond its "
        "vocabulary, for example. Narrow `low` and `high` of the input, or mend the data.",
        example=_data(
            "{kind: python, factory: 'mine:samples'}",
            net=_TABLE,
            **{"mine.py": "import numpy\n\n\ndef samples():\n    return [{'x': numpy.full((1, 4), 99, 'f')}]\n"},
        ),
    ),
    Code(
        code="B0336",
        title="code of the model ended the process",
        text="Something that was called ended the process without an error: `os._exit`, a crash in native code, or a "
        "loop in the file of a model that took more than five minutes of each processor. The message says what was "
        "running.",
        example=Example(
            files={"net.py": "import os\n\n\ndef net():\n    os._exit(0)\n", "recipes/x.yaml": NET_RECIPE},
            apart=True,
            slow=True,
        ),
    ),
)
