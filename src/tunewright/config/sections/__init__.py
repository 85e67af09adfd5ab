"""The sections of `tunewright.yaml`. The docstring below each key is its reference: meaning, unit and default."""

from tunewright.config.sections.apis import (
    ENTRA,
    ENTRA_SCOPE,
    OWN_CANDIDATES,
    USUAL,
    ApiSpec,
    BaselineSpec,
    Endpoint,
    JudgeSpec,
    LabelSpec,
    TeacherSpec,
)
from tunewright.config.sections.common import HIDDEN, Secret, Section
from tunewright.config.sections.data import DataForm, DataSpec
from tunewright.config.sections.operation import AzureSpec, CostsSpec, GoalSpec, MonitorSpec, TrafficSpec
from tunewright.config.sections.tasks import (
    INPUT,
    MAX_TURNS,
    ClassifySpec,
    ExtractSpec,
    GenerateSpec,
    LeaveOut,
    MultiLabelSpec,
    TaskSpec,
    ToolsSpec,
)
from tunewright.config.sections.training import EncoderSpec, EvaluateSpec, ExportSpec, LoraSpec, SearchSpec, TrainSpec

__all__ = [
    "ENTRA",
    "ENTRA_SCOPE",
    "HIDDEN",
    "INPUT",
    "MAX_TURNS",
    "OWN_CANDIDATES",
    "USUAL",
    "ApiSpec",
    "AzureSpec",
    "BaselineSpec",
    "ClassifySpec",
    "CostsSpec",
    "DataForm",
    "DataSpec",
    "EncoderSpec",
    "Endpoint",
    "EvaluateSpec",
    "ExportSpec",
    "ExtractSpec",
    "GenerateSpec",
    "GoalSpec",
    "JudgeSpec",
    "LabelSpec",
    "LeaveOut",
    "LoraSpec",
    "MonitorSpec",
    "MultiLabelSpec",
    "SearchSpec",
    "Secret",
    "Section",
    "TaskSpec",
    "TeacherSpec",
    "ToolsSpec",
    "TrafficSpec",
    "TrainSpec",
]
