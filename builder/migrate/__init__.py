"""A finished Core ML model as one file of another format, with the proof that both compute the same."""
