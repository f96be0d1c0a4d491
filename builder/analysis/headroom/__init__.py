"""Where the numbers of an artifact can go wrong: intervals from its inputs on, beside what was seen."""
