"""docs/models.md agrees with the code about each model. `python -m tests.models.test_models_page` writes its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.fixtures.tiny import FAMILIES, NEWER
from tunewright.inference.runtimes.base import best_runtime
from tunewright.models.architectures import VLLM_ONLY, unsupported
from tunewright.models.catalogue import CatalogueEntry, catalogue

PAGE = REPOSITORY / "docs" / "models.md"


def table() -> str:
    lines = [
        "| name | hub id | 10⁹ parameters | context | licence | template | ONNX Runtime | OpenVINO | vLLM |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in catalogue().items():
        if entry.kind == "encoder":
            continue
        served = " | ".join("yes" if yes else "–" for yes in runtimes(entry))
        lines.append(
            f"| `{name}` | {entry.hub} | {entry.parameters:g} | {entry.context:,} | {entry.licence} | "
            f"`{entry.template}` | {served} |"
        )
    return "\n".join(lines) + "\n"


def encoders() -> str:
    lines = ["| name | hub id | 10⁶ parameters | of them embeddings | window | licence |", "|---|---|---|---|---|---|"]
    for name, entry in catalogue().items():
        if entry.kind == "encoder":
            lines.append(
                f"| `{name}` | {entry.hub} | {1000 * entry.parameters:.0f} | {1000 * entry.embeddings:.0f} | "
                f"{entry.context:,} | {entry.licence} |"
            )
    return "\n".join(lines) + "\n"


def runtimes(entry: CatalogueEntry) -> tuple[bool, bool, bool]:
    """Whether ONNX Runtime, OpenVINO and vLLM serve a model."""
    if entry.shape is None:
        return False, False, False
    known = unsupported(entry.shape.config(entry.context).to_dict()) is None
    return entry.shape.type not in VLLM_ONLY, known, True


_PARTS = (
    ("<!-- table -->\n", "<!-- end of table -->\n", table),
    ("<!-- encoders -->\n", "<!-- end of encoders -->\n", encoders),
)


def test_the_table_is_the_codes() -> None:
    text = PAGE.read_text("utf-8")
    for begin, end, made in _PARTS:
        assert text.split(begin)[1].split(end)[0] == made(), "type: python -m tests.models.test_models_page"


def test_each_type_of_the_catalogue_is_tried_in_tiny() -> None:
    import transformers

    tried = {getattr(transformers, config).model_type for _, config, _ in (FAMILIES | NEWER).values()}
    assert {entry.shape.type for entry in catalogue().values() if entry.shape} <= tried


@pytest.mark.parametrize(("model_type", "runtime"), [("gemma4_text", "vllm"), ("granite", "onnxruntime")])
def test_a_type_that_the_graph_lacks_has_another_runtime(model_type: str, runtime: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}', "utf-8")
    assert best_runtime(tmp_path) == runtime


if __name__ == "__main__":
    for begin, end, made in _PARTS:
        before, rest = PAGE.read_text("utf-8").split(begin)
        PAGE.write_text(before + begin + made() + end + rest.split(end)[1], "utf-8")
