"""Torch operators that coremltools cannot convert, or converts wrongly: one file a family, one function an operator."""
