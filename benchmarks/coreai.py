"""Our executor of `.aimodel` against torch eager of the source and against Apple's interpreter, in one run.

    python -m benchmarks.coreai [--models mobilenet_v2 resnet50 decoder] [--rounds 15] [--keep FOLDER]
    python -m benchmarks.coreai --conversion [--models …] [--rounds 3]

Each model is converted by plain coreai-torch in float32 and in half, and its float32 program is compressed to
int8 and to a palette of 6 bits. Times are medians in times of torch eager in float32; loading is CPU time of reading,
planning and nothing else. Apple's interpreter runs in a process of its own, because it hangs after a fork. Not as a
file: its folder would hide the package `coreai`.

The second line holds whole builds in half precision against a script of plain coreai-torch, in turn, each in a new
process with an empty store and the same file of seeded weights. The script checks nothing; one build runs the default
checks, in which our runtime and Apple's interpreter execute the asset, the other none. Goal with checks: at most 1.0.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.build import FACTORIES, WEIGHTS, measure, recipe
from benchmarks.runtime import SEED, snr, source, timed, with_goal

MODELS = ("mobilenet_v2", "resnet50", "decoder")
VARIANTS = ("fp32", "fp16", "int8", "palette6")
GOAL = 1.0
_INTERPRETER_ROUNDS = 3
_ROOT = Path(__file__).parents[1]


def convert(name: str, folder: Path) -> None:
    """Write the four assets of a model, in a process of its own."""
    from coreai.authoring import AIModelAsset
    from coreai_opt.coreai_utils.passes.weight_palettization import palettize_weights
    from coreai_opt.coreai_utils.passes.weight_quantization import DType, quantize_weights

    model, example = source(name)
    given = torch.from_numpy(example)
    program(model, given).save_asset(folder / "fp32.aimodel")
    quantize_weights(program(model, given), DType.INT8).save_asset(folder / "int8.aimodel")
    palettize_weights(program(model, given), None, n_bits=6, num_kmeans_workers=1).save_asset(
        folder / "palette6.aimodel"
    )
    half = given.half() if given.is_floating_point() else given
    program(model.half(), half).save_asset(folder / "fp16.aimodel")
    assert AIModelAsset.is_valid(folder / "fp16.aimodel")


def program(model: torch.nn.Module, example: torch.Tensor) -> Any:
    """The program that plain coreai-torch makes of a model."""
    from coreai_torch import TorchConverter, get_decomp_table

    exported = torch.export.export(model, (example,)).run_decompositions(get_decomp_table())
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    return converter.add_exported_program(exported, input_names=["input"], output_names=["output"]).to_coreai()


def interpret(path: Path, example: Path) -> None:
    """Print the median seconds of a prediction by Apple's interpreter, and write what it gives next to the example."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    async def run() -> tuple[float, Any]:
        async with AIModelAsset.load(path).executable() as model:
            function, times = model.load_function("main"), []
            for _ in range(_INTERPRETER_ROUNDS):
                started = time.process_time()
                found = await function({"input": NDArray(np.load(example))})
                times.append(time.process_time() - started)
            return statistics.median(times), found["output"].numpy().copy()

    seconds, output = asyncio.run(run())
    np.save(example.with_suffix(".out.npy"), output)
    print(seconds)


def compare(name: str, folder: Path, rounds: int) -> None:
    """Measure one model and print a line a variant."""
    from coreml_runtime import load

    model, example = source(name)
    given = torch.from_numpy(example)

    def eager() -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            return model(given).numpy()

    paths = {variant: folder / f"{variant}.aimodel" for variant in VARIANTS}
    load(paths["fp32"])  # imports and the file cache are not what is measured
    loads = {
        variant: statistics.median(timed(partial(load, path), time.process_time) for _ in range(3))
        for variant, path in paths.items()
    }
    models = {variant: load(path) for variant, path in paths.items()}
    calls = {"torch": eager} | {key: partial(each.predict, {"input": example}) for key, each in models.items()}
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            times[key].append(timed(call, time.process_time))
    base, expected = statistics.median(times["torch"]), eager()
    print(f"\n{name}: torch eager {base * 1e3:.1f} ms")
    for variant, loaded in models.items():
        ours = loaded.predict({"input": example})["output"]
        seconds, apples = interpreter(paths[variant], example, variant, folder)
        print(
            f"  {variant:9} {with_goal(statistics.median(times[variant]) / base, GOAL, digits=2)}   "
            f"load {loads[variant]:5.2f} s   Apple's interpreter {seconds / base:6.1f}   "
            f"SNR to Apple's {snr(ours, apples):5.1f} dB, to torch {snr(ours, expected):5.1f} dB",
            flush=True,
        )


SCRIPT = """
import sys
import torch
from pathlib import Path
from benchmark_models import make
from coreai_torch import TorchConverter, get_decomp_table

name, weights, artifact = sys.argv[1:]
model = make(name)
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval().half()
tokens = name in ("bert", "decoder")
example = torch.randint(0, 8000, (1, 64), dtype=torch.int32) if tokens else torch.rand(1, 3, 224, 224).half()
exported = torch.export.export(model, (example,)).run_decompositions(get_decomp_table())
converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
converter.add_exported_program(exported, input_names=["input"], output_names=["output"])
converter.to_coreai().save_asset(Path(artifact))
"""
"""What people write, as in Apple's guide."""


def conversion(name: str, rounds: int, folder: Path) -> None:
    """Measure builds of a model against the script, and print medians of processor time and their ratios."""
    weights, script = folder / f"{name}.pth", folder / "script.py"
    (folder / "benchmark_models.py").write_text(FACTORIES)
    subprocess.run([sys.executable, "-c", WEIGHTS, name, str(weights), str(SEED)], check=True, cwd=folder)
    script.write_text(SCRIPT)
    (folder / "recipes").mkdir(exist_ok=True)
    commands = {"script": [sys.executable, str(script), name, str(weights), str(folder / "script.aimodel")]}
    for side, checks in (("checked", "default"), ("unchecked", "none")):
        text = recipe(name, weights, checks).replace("target: ios16", "target: ios27")
        (folder / "recipes" / f"{name}_{side}.yaml").write_text(f"{text}\nformat: aimodel\n")
        commands[side] = [sys.executable, "-m", "builder", f"recipe={name}_{side}"]
    times: dict[str, list[float]] = {side: [] for side in commands}
    for _ in range(rounds):
        shutil.rmtree(folder / "outputs", ignore_errors=True)
        for side, command in commands.items():
            times[side].append(measure(command, folder).processor_seconds)
    print(f"{name}: processor time of a whole process, {rounds} rounds in turn, medians")
    base = statistics.median(times["script"])
    print(f"  script     {base:6.2f} s")
    for side in ("checked", "unchecked"):
        median = statistics.median(times[side])
        print(f"  {side:9}  {median:6.2f} s   {with_goal(median / base, GOAL, digits=2)}", flush=True)


def interpreter(path: Path, example: np.ndarray[Any, Any], variant: str, folder: Path) -> tuple[float, Any]:
    """Seconds of a prediction by Apple's interpreter, and its output."""
    file = folder / "example.npy"
    np.save(file, example.astype(np.float16) if variant == "fp16" and example.dtype.kind == "f" else example)
    command = [sys.executable, "-m", "benchmarks.coreai", "--interpret", str(path), str(file)]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]), np.load(file.with_suffix(".out.npy"))


def main() -> None:
    """Convert what is not there yet, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--conversion", action="store_true", help="hold builds against a script instead")
    parser.add_argument("--convert", nargs=2, metavar=("MODEL", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--interpret", nargs=2, metavar=("PATH", "EXAMPLE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.convert:
        convert(options.convert[0], Path(options.convert[1]))
        return
    if options.interpret:
        interpret(Path(options.interpret[0]), Path(options.interpret[1]))
        return
    print(
        f"{platform.machine()}, {options.threads} thread(s), torch {version('torch')}, coreai-core "
        f"{version('coreai-core')}, seed {SEED}, {options.rounds} rounds in turn, medians of CPU time; "
        "times in times of torch eager"
    )
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models if options.conversion else ():
            conversion(name, options.rounds, Path(tempfile.mkdtemp(dir=temporary)))
        for name in () if options.conversion else options.models:
            folder = (options.keep or Path(temporary)).resolve() / name
            if not (folder / "fp16.aimodel").exists():
                folder.mkdir(parents=True, exist_ok=True)
                command = [sys.executable, "-m", "benchmarks.coreai", "--convert", name, str(folder)]
                subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
            compare(name, folder, options.rounds)


if __name__ == "__main__":
    main()
