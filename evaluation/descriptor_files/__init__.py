"""Files of descriptors in, the field's numbers out; and the files that others' tools read."""

from evaluation.descriptor_files.search import evaluate_features
from evaluation.descriptor_files.writing import write_mat, write_submission

__all__ = ["evaluate_features", "write_mat", "write_submission"]
