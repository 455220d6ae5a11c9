"""What a description costs: counted on paper, and measured on a machine."""
