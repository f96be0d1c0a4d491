"""Trained models, as packages on the index ship them: built, and judged on realistic inputs by what they are for."""
