"""Compression of a PyTorch model before it is captured, by coremltools.optimize.torch: one file a kind of method."""

from builder.backends.coreml.module_compression.compress import Compressed, compress_modules

__all__ = ["Compressed", "compress_modules"]
