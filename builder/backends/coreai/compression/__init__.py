"""Weights of a Core AI program in fewer bits: Core AI's own storage, with the mathematics of the Core ML side."""
