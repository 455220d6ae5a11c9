"""Reports of many runs go in; one table beside the published numbers comes out."""
