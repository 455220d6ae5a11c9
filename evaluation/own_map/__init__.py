"""A map of one's own, cut into tiles and searched with one's own photographs."""
