"""Images in, varied images out, by explicit values that (seed, slot, key) alone decide."""
