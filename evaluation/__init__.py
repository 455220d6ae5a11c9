"""A trained model and shards go in; recall, average precision, pictures and a report come out."""
