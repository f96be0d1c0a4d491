"""A build system for Core ML models: a recipe in, a proven artifact out."""

__version__ = "0.1.0"
