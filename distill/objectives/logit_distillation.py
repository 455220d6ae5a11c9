"""Soft labels of the teacher."""

import torch.nn.functional as F
from torch import Tensor


def logit_distillation(
    student_BC: Tensor, teacher_BC: Tensor, *, temperature: Tensor | float
) -> Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over B.

    Hinton et al. 2015; spec pfed 4.5.
    """
    student_logp_BC = F.log_softmax(student_BC / temperature, dim=1)
    teacher_logp_BC = F.log_softmax(teacher_BC / temperature, dim=1)
    kl = F.kl_div(student_logp_BC, teacher_logp_BC, reduction="batchmean", log_target=True)
    return temperature**2 * kl
