"""Measures the Core ML model of this folder on this Mac, and writes device.json for `python -m builder device take`.

    pip install coremltools pillow
    python3 measure.py [--rounds 50] [--units cpu gpu ane all]

It needs this folder alone: pack.json says what is in it, with the digest of each file. Every compute unit is measured
in a process of its own, so that loading begins anew and memory is that of one model. Uses coremltools' public API.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "all": "ALL"}
STAND_IN = "BUILDER_DEVICE_STAND_IN"
"""Set by tests, which run this without Apple's framework: the result says so and is no measurement of a device."""
WARM_UP = 3


def main() -> int:
    """Measure each unit, and write device.json; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="predictions that are timed (default: 50)")
    parser.add_argument("--units", nargs="+", choices=UNITS, default=list(UNITS), metavar="UNIT")
    parser.add_argument("--unit", choices=UNITS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if sys.platform != "darwin" and STAND_IN not in os.environ:
        print("this needs a Mac: Core ML is nowhere else", file=sys.stderr)
        return 1
    text = (FOLDER / "pack.json").read_bytes()
    pack = json.loads(text)
    if given.unit:
        print("\n" + json.dumps(measured(pack, given.unit, given.rounds)))
        return 0
    damaged = [name for name, wanted in pack["files"].items() if digest(FOLDER / name) != wanted]
    if damaged:
        print(f"not the files that were packed: {', '.join(damaged)}", file=sys.stderr)
        return 1
    import coremltools

    document = {
        "schema": 1,
        "pack": hashlib.sha256(text).hexdigest(),
        "artifact": pack["artifact"],
        "stand_in": sys.platform != "darwin",
        "device": described(),
        "tools": {"coremltools": coremltools.__version__, "python": platform.python_version()},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "units": {unit: in_process(unit, given.rounds) for unit in given.units},
    }
    partial = FOLDER / "device.json.partial"
    partial.write_text(json.dumps(document, indent=1) + "\n")
    partial.replace(FOLDER / "device.json")
    for unit, found in document["units"].items():
        print(f"{unit}: {found['failed']}" if "failed" in found else f"{unit}: {found['latency_ms']:.3f} ms")
    return 0


def digest(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def asked(name: str) -> str:
    """What the system says of itself; empty where it does not know."""
    found = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def described() -> dict[str, Any]:
    """The machine: Apple's identifier of the model, its chip and its system."""
    if sys.platform != "darwin":
        return {"model": "stand-in", "chip": platform.machine(), "system": platform.system()}
    return {
        "model": asked("hw.model"),
        "chip": asked("machdep.cpu.brand_string"),
        "system": f"macOS {platform.mac_ver()[0]}",
    }


def in_process(unit: str, rounds: int) -> dict[str, object]:
    """What a process of its own measures on one unit, or why it could not."""
    command = [sys.executable, __file__, "--unit", unit, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        return {"failed": said[-1][:500]}
    found: dict[str, object] = json.loads(lines[-1])
    return found


def measured(pack: dict[str, Any], unit: str, rounds: int) -> dict[str, Any]:
    """Load twice, predict the golden inputs, then time the first of them."""
    import coremltools
    import numpy

    units = getattr(coremltools.ComputeUnit, UNITS[unit])
    options = {"compute_units": units, **({"function_name": pack["function"]} if pack["function"] else {})}
    path = str(FOLDER / pack["file"])
    cold, model = timed(lambda: coremltools.models.MLModel(path, **options))
    warm, model = timed(lambda: coremltools.models.MLModel(path, **options))
    samples = [inputs(pack, number) for number in range(pack["samples"])]
    state = model.make_state() if pack["stateful"] else None
    more = {} if state is None else {"state": state}
    found = {}
    for number, sample in enumerate(samples):
        for name, value in model.predict(sample, **more).items():
            found.update(plain(f"{number}/{name}", value))
    for _ in range(WARM_UP):
        model.predict(samples[0], **more)
    times = sorted(timed(lambda: model.predict(samples[0], **more))[0] for _ in range(max(rounds, 1)))
    numpy.savez(FOLDER / f"device-{unit}.npz", **found)
    return {
        "latency_ms": times[len(times) // 2],
        "latency_p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))],
        "rounds": len(times),
        "load_cold_ms": cold,
        "load_warm_ms": warm,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        **placed(model, units),
        "outputs": f"device-{unit}.npz",
        "sha256": digest(FOLDER / f"device-{unit}.npz"),
    }


def timed(call: Any) -> tuple[float, Any]:
    """Milliseconds, and what was returned."""
    started = time.perf_counter()
    returned = call()
    return 1000 * (time.perf_counter() - started), returned


def inputs(pack: dict[str, Any], number: int) -> dict[str, Any]:
    """A golden input as Core ML takes it: arrays, and pictures by PIL."""
    import numpy
    from PIL import Image

    with numpy.load(FOLDER / "golden/inputs.npz") as file:
        own = [name for name in file.files if name.startswith(f"{number}/")]
        values = {name.partition("/")[2]: file[name] for name in own}
    modes = pack["pictures"]
    return {name: Image.fromarray(value, modes[name]) if name in modes else value for name, value in values.items()}


def plain(name: str, value: object) -> dict[str, Any]:
    """An output as arrays: of probabilities by label those in the order of the labels' texts; texts stay out."""
    import numpy

    if isinstance(value, dict):
        return {name: numpy.array([value[key] for key in sorted(value, key=str)], dtype=numpy.float32)}
    array = numpy.asarray(value)
    return {} if array.dtype.kind not in "biuf" else {name: array}


def placed(model: Any, units: object) -> dict[str, Any]:
    """How many operators Core ML's compute plan puts where (macOS 14.4 or later), or why that is not known."""
    from coremltools.models.compute_plan import MLComputePlan

    try:
        plan = MLComputePlan.load_from_path(path=model.get_compiled_model_path(), compute_units=units)
        program = plan.model_structure.program
        if program is None:
            return {"placement": None, "placement_reason": "only ML programs are looked at"}
        counts = {"cpu": 0, "gpu": 0, "ane": 0}
        names = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "ane"}
        for operation in (each for function in program.functions.values() for each in function.block.operations):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:  # constants run nowhere
                counts[names[type(usage.preferred_compute_device).__name__]] += 1
    except Exception as error:  # whatever an older system raises: the measurement goes on without
        return {"placement": None, "placement_reason": str(error)[:300]}
    return {"placement": counts, "placement_reason": ""}


if __name__ == "__main__":
    sys.exit(main())
