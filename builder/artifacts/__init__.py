"""The values that pass through a build: `stages` hand on, `checks` find, a `record` has, and what is `stored`."""
