"""coremltools imports quietly, without what a conversion does not use, and says when it is not fit."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from builder.backends.coreml import importing as coreml_import
from builder.backends.coreml.importing import import_coremltools
from builder.errors import UnfitEnvironmentError


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_the_import_is_quiet_and_leaves_heavy_packages_out() -> None:
    # given a fresh process, when coremltools is imported
    done = _run(
        "import sys\n"
        "from builder.backends.coreml.importing import import_coremltools\n"
        "ct = import_coremltools()\n"
        "heavy = ['sklearn', 'pandas', 'transformers', 'torchvision', 'torch.distributed.fsdp']\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "print(ct.optimize.torch.__name__, 'coremltools.optimize.torch.base_model_optimizer' in sys.modules)\n"
    )
    # then nothing is said, and none of them is there
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["[]", "coremltools.optimize.torch False"]


def test_what_was_left_out_is_the_real_thing_when_it_is_used() -> None:
    # given coremltools as the builder imports it
    done = _run(
        "import warnings; warnings.simplefilter('ignore')\n"
        "from builder.backends.coreml.importing import import_coremltools\n"
        "ct = import_coremltools()\n"
        # when user code imports training-time compression, sparse matrices and the packages that were probed
        "from coremltools.optimize.torch.quantization import LinearQuantizer\n"
        "import scipy.sparse, sklearn.cluster, torchvision\n"
        "print(LinearQuantizer.__module__, ct.optimize.torch.palettization.DKMPalettizer.__name__)\n"
        "print(scipy.sparse.csr_matrix.__name__, sklearn.cluster.KMeans.__name__, torchvision.ops.nms.__name__)\n"
    )
    # then it gets it
    assert done.stdout.splitlines() == [
        "coremltools.optimize.torch.quantization.quantizer DKMPalettizer",
        "csr_matrix KMeans nms",
    ]


def test_packages_that_look_at_others_while_they_are_probed_find_them(tmp_path: Path) -> None:
    # given a package that coremltools probes and that asks, as torch's compiler does, whether scikit-learn is there
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    done = _run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import importlib.util\n"
        "from builder.backends.coreml.importing import _probed_packages, import_coremltools\n"
        "with _probed_packages():\n"
        "    print(importlib.util.find_spec('sklearn').name)\n"
        "import_coremltools()\n"
        "print('torchao' in sys.modules)\n"
    )
    # then scikit-learn is found, and torchao was not imported
    assert done.stdout.splitlines() == ["sklearn", "False"]


def test_a_missing_native_library_is_an_unfit_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an installation without the library that writes weights
    coremltools = import_coremltools()
    real = importlib.import_module

    def without_library(name: str, package: str | None = None) -> object:
        if name.endswith("libmilstoragepython"):
            raise ImportError("no such file")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without_library)
    # when it is checked, then the user is told what to install
    with pytest.raises(UnfitEnvironmentError, match="libmilstoragepython") as caught:
        coreml_import._check_native_libraries(coremltools)
    assert "Python 3.11" in (caught.value.hint or "")
    assert caught.value.exit_code == 7
