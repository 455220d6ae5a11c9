"""Shards in, a teacher's cache and distilled students out: one loop trains every recipe."""
