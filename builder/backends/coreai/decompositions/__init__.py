"""Operators that coreai-torch lacks, written with those that it has: one file a family, each tested against torch."""
