"""The lock, releases that can be proved, and their verification: nothing in a release is taken on trust."""
