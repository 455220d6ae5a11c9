"""What a training recipe can say. No torch: a login node checks a recipe in a blink."""

from distill.config.data import DataConfig, MiningConfig
from distill.config.model import CodecName, ModelConfig, TeacherConfig
from distill.config.objectives import (
    CrossEntropyConfig,
    DeepSupervisionConfig,
    FeatureDistillationConfig,
    InfoNceConfig,
    LogitDistillationConfig,
    ObjectivesConfig,
    ProxyAnchorConfig,
    SelfDistillationConfig,
    TripletConfig,
    UapaConfig,
)
from distill.config.optim import OptimizerConfig, ScheduleConfig
from distill.config.recipe import DistillConfig, Precision, TrackingConfig

__all__ = [
    "CodecName",
    "CrossEntropyConfig",
    "DataConfig",
    "DeepSupervisionConfig",
    "DistillConfig",
    "FeatureDistillationConfig",
    "InfoNceConfig",
    "LogitDistillationConfig",
    "MiningConfig",
    "ModelConfig",
    "ObjectivesConfig",
    "OptimizerConfig",
    "Precision",
    "ProxyAnchorConfig",
    "ScheduleConfig",
    "SelfDistillationConfig",
    "TeacherConfig",
    "TrackingConfig",
    "TripletConfig",
    "UapaConfig",
]
