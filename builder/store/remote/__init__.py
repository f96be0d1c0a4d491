"""A store that several machines share, behind the local one: results are read through, and written behind."""
