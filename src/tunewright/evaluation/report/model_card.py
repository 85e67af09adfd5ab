"""A model card in Hugging Face's format: what the model is for, how well it does it, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.page import render
from tunewright.evaluation.report.table import candidate_rows
from tunewright.evaluation.verdict.comparison import SERVED, kind_in
from tunewright.inference.runtimes.base import runtime_in
from tunewright.models.catalogue import catalogue
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import published_name
from tunewright.tasks import task_of
from tunewright.training.diagnosis.history import linear_beside

_PIPELINES = {
    "classify": "text-classification",
    "multi_label": "text-classification",
    "extract": "text-generation",
    "generate": "text-generation",
    "tools": "text-generation",
}
LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "Llama 3 Community": "llama3",
    "Llama 3.1 Community": "llama3.1",
    "Llama 3.2 Community": "llama3.2",
}
"""The hub's names of the base models' licences; an adapter and a merged model keep the licence of their base."""


def write_card(spec: Spec, data: Mapping[str, Any], inputs: Mapping[str, Path], file: Path) -> None:
    """Write a model card.

    Args:
        data: the content of `verdict.json`.
        inputs: the folders of the steps that made the model, for its lineage.
    """
    context = {
        **data,
        "spec": spec,
        "task": task_of(spec.task),
        "runtime": runtime_in(inputs["export"] / "bundle"),
        "front": _front(spec, data),
        "rows": [row for row in candidate_rows(dict(data)) if "not measured" not in row["primary_metric"]],
        "short": [each for each in data["details"]["slices"] if each["falls_short"]],
        "kind": kind_in(data["comparison"]["candidates"]),
        "beside": linear_beside(inputs["train"]),
        "steps": {name: read_manifest(folder) for name, folder in inputs.items()},
    }
    file.write_text(render("tunewright.evaluation", "model_card.md.jinja", context), "utf-8")


def _base_model(spec: Spec) -> str | None:
    """The hub's name of the base model; None for a linear model, which has none."""
    return None if spec.model == LINEAR else published_name(spec.model, spec.folder)


def _front(spec: Spec, data: Mapping[str, Any]) -> str:
    """The card's metadata, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    entry = catalogue().get(spec.model)
    primary_metric, kind = data["comparison"]["primary_metric"], kind_in(data["comparison"]["candidates"])
    # An encoder's head is a file that transformers does not read, and its training has no method.
    library, how = ("transformers", [spec.train.method]) if kind == "decoder" else ("tunewright", [])
    results = [
        EvalResult(
            task_type=_PIPELINES[spec.task.kind],
            dataset_type="private",
            dataset_name=spec.name,
            dataset_split=split,
            metric_type=primary_metric.replace(" ", "_"),
            metric_name=primary_metric,
            metric_value=round(score["primary_metric"]["value"], 4),
        )
        for split, score in data["comparison"]["candidates"][SERVED]["scores"].items()
    ]
    card = ModelCardData(
        model_name=spec.name,
        base_model=_base_model(spec),
        eval_results=results,
        license=LICENCES.get(entry.licence, "other") if entry else "other",
        library_name=library,
        pipeline_tag=_PIPELINES[spec.task.kind],
        tags=["tunewright", *how, spec.task.kind],
    )
    return str(card.to_yaml())
