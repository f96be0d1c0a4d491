"""Tests of the distribution by itself."""
