"""Descriptor of the teacher."""

import torch.nn.functional as F
from torch import Tensor


def feature_distillation(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Return 1 - cosine of student and teacher descriptor, mean over B (spec pfed 4.5 and 8.14).

    For unit vectors this is half the squared distance, so it also stands for the normalised MSE.
    """
    return 1 - F.cosine_similarity(student_BD, teacher_BD, dim=1).mean()
