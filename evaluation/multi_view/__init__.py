"""Many drone views of a place as one description: PFED's refinement beside its controls."""
