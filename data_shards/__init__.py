"""Raw drone and satellite folders in, verified shards out, planned batches back."""
