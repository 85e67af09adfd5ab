"""Recipes: each is read, fits the schema, and says what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import write_project
from tunewright.config import load_spec
from tunewright.config.recipes import launch_names, launch_text, recipe_names, recipe_text
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.models.catalogue import catalogue


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_fits_the_schema_and_explains_each_setting(name: str, tmp_path: Path) -> None:
    spec = load_spec(write_project(tmp_path / "project"), recipe=name)
    assert spec.model in catalogue()
    assert name.startswith(spec.model)
    text = recipe_text(name)
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert f"--recipe {name}" in "\n".join(header)
    size = re.search(r"Standard_\w+", header[0])
    assert size is None or price_book().machine(size[0]).gpu
    settings = text[text.index("\ntrain:\n") + len("\ntrain:\n") :].splitlines()
    assert [line for line in settings if not re.fullmatch(r"  \w+: [^#]+ # .+", line)] == []


def test_each_card_has_recipes() -> None:
    for card in ("t4", "a10", "a100", "h100", "cpu"):
        assert any(name.endswith(f"-{card}") for name in recipe_names()), card


@pytest.mark.parametrize("model", ["phi-3-mini", "mistral-7b", "llama-3-8b", "llama-3.1-8b"])
def test_the_models_of_the_true_sizes_have_one_for_each_gpu(model: str) -> None:
    assert {name.removeprefix(f"{model}-") for name in recipe_names()} >= {"t4", "a10", "a100"}


def test_a_t4s_recipe_takes_bfloat16_where_a_card_has_it() -> None:
    """float16 by name would be what an A10 trains, evaluates and serves in, too."""
    named = {name: re.findall(r"precision: (\w+)", recipe_text(name))[0] for name in recipe_names()}
    assert {precision for name, precision in named.items() if name.endswith("-t4")} == {"auto"}


def test_overrides_lie_over_the_recipe_and_the_recipe_over_the_file(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", train={"lr": 0.5, "epochs": 7, "lora": {"r": 3, "dropout": 0.1}})
    spec = load_spec(project, ["train.batch_size=3"], recipe="phi-3-mini-t4")
    assert (spec.train.batch_size, spec.train.lr, spec.train.epochs) == (3, 2e-4, 7)
    assert (spec.train.lora.r, spec.train.lora.dropout) == (16, 0.1)


def test_an_unknown_recipe_is_refused_with_a_near_name() -> None:
    with pytest.raises(UserError, match="phi-3-mini-t4"):
        recipe_text("phi-3-mini-t5")
    with pytest.raises(UserError, match="recipes ls"):
        recipe_text("nothing like it")
    with pytest.raises(UserError, match="fsdp, multi-gpu, multi-node"):
        launch_text("nothing like it")


@pytest.mark.parametrize("name", launch_names())
def test_accelerate_reads_each_launch_file(name: str, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    file = tmp_path / "launch.yaml"
    file.write_text(launch_text(name), "utf-8")
    config = load_config_from_file(str(file))
    assert config.mixed_precision == "no"
    assert (str(config.distributed_type) == "DistributedType.FSDP") == (name == "fsdp")
