"""A seed and a few counts in, a world of places out, filed as a public data set is."""
