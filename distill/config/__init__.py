"""What a training recipe can say. No torch: a login node checks a recipe in a blink."""

from distill.config.data import DataConfig, MiningConfig
from distill.config.model import CodecName, ModelConfig, TeacherConfig
from distill.config.objectives import ObjectivesConfig
from distill.config.optim import Rule, ScheduleConfig
from distill.config.recipe import DistillConfig, Precision

__all__ = [
    "CodecName",
    "DataConfig",
    "DistillConfig",
    "MiningConfig",
    "ModelConfig",
    "ObjectivesConfig",
    "Precision",
    "Rule",
    "ScheduleConfig",
    "TeacherConfig",
]
