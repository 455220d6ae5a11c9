"""What a training recipe can say. No torch: a login node checks a recipe in a blink."""

from distill.config.data import DataConfig, MiningConfig
from distill.config.model import CodecName, ModelConfig, TeacherConfig
from distill.config.objectives import (
    CrossEntropyConfig,
    CrossViewConfig,
    FeatureDistillationConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    ObjectivesConfig,
    TripletConfig,
)
from distill.config.optim import PhaseConfig, Rule, ScheduleConfig
from distill.config.recipe import DistillConfig, Precision

__all__ = [
    "CodecName",
    "CrossEntropyConfig",
    "CrossViewConfig",
    "DataConfig",
    "DistillConfig",
    "FeatureDistillationConfig",
    "InfoNceConfig",
    "LogitDistillationConfig",
    "MiningConfig",
    "ModelConfig",
    "ObjectivesConfig",
    "PhaseConfig",
    "Precision",
    "Rule",
    "ScheduleConfig",
    "TeacherConfig",
    "TripletConfig",
]
