"""Pictures of what a model finds, of how it learned, and of how models compare."""
