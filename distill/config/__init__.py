"""What a training recipe can say. No torch: a login node checks a recipe in a blink."""

from distill.config.data import DataConfig, MiningConfig
from distill.config.model import CodecName, ModelConfig, TeacherConfig
from distill.config.objectives import (
    CrossEntropyConfig,
    FeatureDistillationConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    ObjectivesConfig,
)
from distill.config.optim import OptimizerConfig, ScheduleConfig
from distill.config.recipe import DistillConfig, Precision, TrackingConfig

__all__ = [
    "CodecName",
    "CrossEntropyConfig",
    "DataConfig",
    "DistillConfig",
    "FeatureDistillationConfig",
    "InfoNceConfig",
    "LogitDistillationConfig",
    "MiningConfig",
    "ModelConfig",
    "ObjectivesConfig",
    "OptimizerConfig",
    "Precision",
    "ScheduleConfig",
    "TeacherConfig",
    "TrackingConfig",
]
