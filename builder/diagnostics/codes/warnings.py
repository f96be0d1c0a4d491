"""B0001 to B0019: warnings. The command goes on, and its exit code says nothing about them."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, RECIPE, Code, Example, net

_SEEDED = RECIPE.replace("name: mobilenet_v2", "name: mobilenet_v2\n  weights: DEFAULT\n  offline: seeded")
_CHECKPOINT = NET_RECIPE.replace(
    "kind: python\n  factory: net:net", "kind: checkpoint\n  factory: net:net\n  file: net.pt\n  strict: false"
)
_BUILD = "recipe=x checks=none"
_WEIGHTS = """\
import torch

torch.save({"0.weight": torch.zeros(2, 4), "more": torch.zeros(1)}, "net.pt")
"""
_HELD = """\
import fcntl, os, subprocess, sys

os.makedirs("outputs/.building/x")
code = "import fcntl, time; f = open('outputs/.building/x/default.lock', 'w'); fcntl.flock(f, 2); print(1, flush=True)"
holder = subprocess.Popen([sys.executable, "-c", code + "; time.sleep(2)"], stdout=subprocess.PIPE)
holder.stdout.readline()
"""
_CHANGES = """\
import pathlib

import torch


def net():
    here = pathlib.Path(__file__)
    here.write_text(here.read_text() + "#\\n")
    return torch.nn.Linear(4, 2)
"""
_CHANGES_PROCESS = """\
import os

import torch


def net():
    os.environ["BUILDER_CACHE"] = "elsewhere"
    return torch.nn.Linear(4, 2)
"""
_BRANCH = """\
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x * 3


def net():
    return Net()
"""
_SOFTMAX = """\
import torch


def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1))
"""
_COUNTER = """\
import torch


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen.add_(1)
        return x + self.seen


def net():
    return Counter()
"""
_OWN_STORE = """\
import os

os.environ["BUILDER_CACHE"] = os.path.abspath("cache")
"""
_DAMAGE = """\
import pathlib

for file in pathlib.Path("cache/store/actions/load").rglob("*.json"):
    file.write_text("{}")
"""
_TRACKED = NET_RECIPE.replace("kind: none", "kind: mlflow")

CODES = (
    Code(
        code="B0001",
        title="the weights are untrained",
        text="The published weights could not be downloaded, and `source.offline: seeded` allows random ones instead. "
        "The build shows whether the model converts and what it costs; its predictions mean nothing. Build again "
        "with a network, or give the file of weights.",
        example=Example(files={"recipes/x.yaml": _SEEDED}, commands=(_BUILD,), slow=True),
    ),
    Code(
        code="B0002",
        title="the weights and the model do not fit one another",
        text="`source.strict: false` leaves out values whose names the model does not have, and leaves parameters as "
        "they are made that the file has no values for. Both are listed; the latter are untrained.",
        example=Example(
            files={
                "net.py": NET,
                "make.py": _WEIGHTS,
                "recipes/x.yaml": _CHECKPOINT,
            },
            commands=("python make.py", _BUILD),
        ),
    ),
    Code(
        code="B0003",
        title="another build of the same variant is running",
        text="Builds of one recipe with the same overrides write the same folder, so the later one waits.",
        example=Example(
            files={"net.py": NET, "hold.py": _HELD, "recipes/x.yaml": NET_RECIPE},
            commands=("python hold.py", _BUILD),
        ),
    ),
    Code(
        code="B0004",
        title="what compression costs is not known",
        text="The artifact after one of the compression steps cannot be executed here, so that what this step costs is "
        "not measured. Checks of the finished artifact say the same, and decide.",
        example=None,
    ),
    Code(
        code="B0005",
        title="an input of a stage changed while it ran",
        text="A file that the stage reads was changed during the build. The result may be of the old content or of the "
        "new one, so it is used for this build and not stored. Code of yours that writes its own files has this "
        "effect in every build.",
        example=net(source=_CHANGES, commands=(_BUILD,)),
    ),
    Code(
        code="B0006",
        title="the trace records a value as a constant",
        text="A trace records one run: a branch, a loop or a size that the code decides by the values of a tensor is "
        "in the artifact as it was decided for the example. The check named `capture` runs other examples. "
        "`capture.method: script` or `export` keeps what depends on values.",
        example=net("capture: {method: trace}", source=_BRANCH, commands=(_BUILD,)),
    ),
    Code(
        code="B0007",
        title="softmax is applied twice",
        text="The model ends with a softmax, and `classifier` adds another, after which all classes are nearly equally "
        "probable. Write `classifier: {softmax: false}`.",
        example=net("classifier: {labels: [a, b, c]}", source=_SOFTMAX, commands=(_BUILD,)),
    ),
    Code(
        code="B0008",
        title="a state counts by small steps",
        text="Core ML keeps states in float16, which holds no odd number above 2048: a counter stands still there. "
        "Keep the counter in the app, as an input and an output of the model, or reset the state before.",
        example=net(
            "target: {name: ios18}",
            "precision: {kind: fp16}",
            "state: {seen: {buffer: seen}}",
            source=_COUNTER,
            commands=(_BUILD,),
        ),
    ),
    Code(
        code="B0009",
        title="the folder of the artifact has files that no build made",
        text="A build replaces what builds made. Whatever else lies in the folder stays there.",
        example=Example(
            files={
                "net.py": NET,
                "note.py": "open('outputs/x/default/note.txt', 'w').close()\n",
                "again.py": "import shutil\n\nshutil.rmtree('outputs/x/default/x.mlpackage')\n",
                "recipes/x.yaml": NET_RECIPE,
            },
            commands=(_BUILD, "python note.py", "python again.py", _BUILD),
            slow=True,
        ),
    ),
    Code(
        code="B0010",
        title="what was chosen is not written as a recipe",
        text="`auto` writes what it chose as a recipe. Some overrides of the command line, such as removals by `~`, "
        "cannot be written so; `build.json` has the choice.",
        example=None,
    ),
    Code(
        code="B0011",
        title="a result in the store is not usable",
        text="The store's record of a stage is damaged, cannot be read, or does not fit what it stands for. The stage "
        "runs again, and its result replaces the record.",
        example=Example(
            files={"net.py": NET, "own.py": _OWN_STORE, "damage.py": _DAMAGE, "recipes/x.yaml": NET_RECIPE},
            commands=("python own.py", _BUILD, "python damage.py", f"{_BUILD} precision=fp32"),
        ),
    ),
    Code(
        code="B0012",
        title="results in the store belong to other users",
        text="A result that another user wrote is as safe as a download by them. `BUILDER_TRUSTED_OWNERS` names the "
        "users whose results are used, separated by commas; without it only yours are.",
        example=None,
    ),
    Code(
        code="B0013",
        title="the store cannot be written",
        text="Results are not stored, so that the next build computes them anew. `BUILDER_CACHE` names the folder.",
        example=Example(
            files={"net.py": NET, "recipes/x.yaml": NET_RECIPE},
            environment={"BUILDER_CACHE": "net.py"},
            commands=(_BUILD,),
        ),
    ),
    Code(
        code="B0014",
        title="the run is not recorded in MLflow",
        text="The build is good; its record could not be put into the folder from which runs are sent. "
        "`tracking.required: true` makes this an error.",
        example=Example(
            files={"net.py": NET, "outputs/.outbox": "", "recipes/x.yaml": _TRACKED},
            commands=(_BUILD,),
        ),
    ),
    Code(
        code="B0015",
        title="the model is not registered",
        text="`tracking.register_as` registers models that passed every check and have trained weights.",
        example=None,
    ),
    Code(
        code="B0016",
        title="earlier runs wait to be sent to MLflow",
        text="Runs are sent in the background, and the server did not take them yet. `python -m builder flush` tries "
        "again and says why it fails.",
        example=None,
    ),
    Code(
        code="B0017",
        title="code of the recipe changed the process",
        text="A factory or other code of yours closed a stream, changed an environment variable that builder reads, or "
        "copied the process. What was changed is put back, and the copy is ended, so that it does not matter for "
        "the build; the code should not do it.",
        example=Example(
            files={"net.py": _CHANGES_PROCESS, "recipes/x.yaml": NET_RECIPE}, commands=(_BUILD,), apart=True, slow=True
        ),
    ),
    Code(
        code="B0018",
        title="the remote store has something damaged",
        text="What arrived from the remote store does not have the digest that its name promises, or is not a record "
        "of the stage. It is not used; the stage runs again.",
        example=None,
    ),
    Code(
        code="B0019",
        title="the remote store does not answer",
        text="`BUILDER_REMOTE` could not be reached, or refused. The build goes on with the local store; what could "
        "not be sent waits, and the next command or `python -m builder flush` sends it.",
        example=None,
    ),
    Code(
        code="B0020",
        title="a measurement on a device cannot be read",
        text="What `device take` keeps in `outputs/.devices`, by the digest of the artifact, is damaged. The build "
        "goes on without it; remove the file that is named, and take the measurement again.",
        example=None,
    ),
    Code(
        code="B0021",
        title="a file that is quantized dynamically is computed in float",
        text="`source.dequantize: true` takes the weights of an ONNX file as they are, and measures no scales while "
        "the model runs: nothing in Core ML does. The file itself rounds to 8 bits on the way, so it computes "
        "something slightly else; how far that is, is measured on draws of what the recipe declares. Checks compare "
        "the artifact with the file in float.",
        example=None,
    ),
)
