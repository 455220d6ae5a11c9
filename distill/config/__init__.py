"""What a training recipe can say. No torch: a login node checks a recipe in a blink."""

from distill.config.data import DataConfig, MiningConfig
from distill.config.model import CodecName, ModelConfig, TeacherConfig
from distill.config.objectives import (
    CrossEntropyConfig,
    CrossViewConfig,
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
from distill.config.optim import OptimizerConfig, PhaseConfig, Rule, ScheduleConfig
from distill.config.recipe import DistillConfig, Precision, TrackingConfig

__all__ = [
    "CodecName",
    "CrossEntropyConfig",
    "CrossViewConfig",
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
    "PhaseConfig",
    "Precision",
    "ProxyAnchorConfig",
    "Rule",
    "ScheduleConfig",
    "SelfDistillationConfig",
    "TeacherConfig",
    "TrackingConfig",
    "TripletConfig",
    "UapaConfig",
]
