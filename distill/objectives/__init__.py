"""Loss terms as pure functions of tensors: one per file, no rank, no device, no configuration."""
