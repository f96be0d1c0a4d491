"""Our executor of `.aimodel` against torch eager of the source and against Apple's interpreter, in one run.

    python -m benchmarks.coreai [--models mobilenet_v2 resnet50 decoder] [--rounds 15] [--keep FOLDER]

Each model is converted by plain coreai-torch in float32 and in half, and its float32 program is compressed to
int8 and to a palette of 6 bits. Times are medians in times of torch eager in float32; loading is CPU time of reading,
planning and nothing else. Apple's interpreter runs in a process of its own, because it hangs after a fork. Not as a
file: its folder would hide the package `coreai`.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
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
        for name in options.models:
            folder = (options.keep or Path(temporary)).resolve() / name
            if not (folder / "fp16.aimodel").exists():
                folder.mkdir(parents=True, exist_ok=True)
                command = [sys.executable, "-m", "benchmarks.coreai", "--convert", name, str(folder)]
                subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
            compare(name, folder, options.rounds)


if __name__ == "__main__":
    main()
