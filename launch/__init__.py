"""Commands in, processes out: starts the other stages and computes nothing itself."""
