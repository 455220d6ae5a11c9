"""The order of samples: rounds, views, hard neighbours and held-out places."""
