"""Where an artifact goes wrong: the error that each operator and each rewrite adds, and what would help."""
