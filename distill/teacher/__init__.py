"""A frozen model in, its named outputs for every batch out: live, or read from a cache on disk."""
