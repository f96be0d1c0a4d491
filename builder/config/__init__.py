"""From YAML and the command line to a validated BuildRequest; every mistake is told with its place."""
