"""Shards that lie elsewhere: fetched, checked and kept on the disk of this node."""
