"""Many builds from one command line: each in a process of its own, in an order in which the store is shared best."""
