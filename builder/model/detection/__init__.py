"""Detectors: boxes decoded inside the program, the best of them as candidates, and what the original keeps of them."""
