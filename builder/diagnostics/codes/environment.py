"""B0701 to B0709: the machine and what is installed on it."""

from __future__ import annotations

from builder.diagnostics.code import NET, NET_RECIPE, Code, Example, net

CODES = (
    Code(
        code="B0701",
        title="a package is not installed",
        text="The recipe or the command needs a package that builder does not need otherwise. The hint has the command "
        "that installs it.",
        example=Example(
            files={
                "net.onnx": "",
                "recipes/x.yaml": NET_RECIPE.replace(
                    "kind: python\n  factory: net:net", "kind: onnx\n  file: ../net.onnx"
                ),
            },
            without=("onnx",),
        ),
    ),
    Code(
        code="B0702",
        title="an installed package does not fit",
        text="A package cannot be imported, lacks its native library, or is of a version that builder does not know. "
        "`python -m builder doctor` looks at all of them.",
        example=Example(
            files={"net.py": NET.replace("4, 2", "4, 3"), "recipes/x.yaml": NET_RECIPE}, without=("coremltools",)
        ),
    ),
    Code(
        code="B0704",
        title="Core AI is not available",
        text="`format: aimodel` needs Apple's packages, which exist for few systems, in the versions that builder "
        "knows.",
        example=Example(
            files={"net.py": NET, "recipes/x.yaml": NET_RECIPE + "format: aimodel\ntarget: {name: ios27}\n"},
            without=("coreai",),
        ),
    ),
    Code(
        code="B0706",
        title="files cannot be written",
        text="The disk is full, or the system refuses. Nothing that was there is replaced by half of something.",
        example=net(commands=("recipe=x --outputs /proc/builder",)),
    ),
    Code(
        code="B0707",
        title="memory ran out",
        text="The process was ended by the system, or could not get memory. Build on a machine with more, fewer jobs "
        "at once (`sweep.jobs`), or a smaller model.",
        example=Example(
            files={
                "net.py": "import os\nimport signal\n\n\ndef net():\n    os.kill(os.getpid(), signal.SIGKILL)\n",
                "recipes/x.yaml": NET_RECIPE,
            },
            apart=True,
            slow=True,
        ),
    ),
    Code(
        code="B0708",
        title="the run could not be sent to MLflow",
        text="With `tracking.required` a build that cannot be recorded fails. The run waits in the outbox; `python -m "
        "builder flush` sends it.",
        example=Example(
            files={
                "net.py": NET,
                "recipes/x.yaml": NET_RECIPE.replace(
                    "tracking:\n  kind: none", "tracking:\n  kind: mlflow\n  uri: http://127.0.0.1:9\n  required: true"
                ),
            },
            slow=True,
        ),
    ),
    Code(
        code="B0709",
        title="results could not be sent to the remote store",
        text="`BUILDER_REMOTE` names a store that does not answer, or refuses. Builds work without it; what is to be "
        "sent waits beside the local store, and each build and `python -m builder flush` try again.",
        example=net(
            source=NET.replace("ReLU", "Tanh"),
            commands=("recipe=x", "flush"),
            environment={"BUILDER_REMOTE": "nowhere"},
            slow=True,
        ),
    ),
    Code(
        code="B0710",
        title="a device cannot be measured by ssh",
        text="`device run` uses the system's `ssh` and `scp`, which ask nothing (`BatchMode`): the host must be known, "
        "and let this machine in by a key. The Mac needs Python with coremltools (`--python PATH`). Each step has "
        "`--timeout` seconds. Nothing is attached to the build.",
        example=net(commands=("device run ssh://nowhere.invalid recipe=x",), slow=True),
    ),
    Code(
        code="B0711",
        title="the Hub does not take it",
        text="`publish` could not make its commit: no token, no right to write, no network, or somebody else committed "
        "at the same time. The repository is as it was; publish again.",
        example=net(
            commands=("publish --to hf://me/model recipe=x",),
            environment={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_example"},
            slow=True,
        ),
    ),
)
