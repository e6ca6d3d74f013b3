"""Recipes: strict reading, shipped values, schedules."""

import numpy as np
import pytest

from heldout_torch import HeldoutError
from heldout_torch.experiments import Recipe, known_experiments, read_recipe, recipe_of

GOOD = "epochs = 3\nbatch_size = 16\nlearning_rate = 0.1\n"


def test_experiments_bring_their_recipes():
    known = known_experiments()
    assert recipe_of(known["mnist-mlp"]) == Recipe(epochs=10, batch_size=128, learning_rate=0.1)
    assert known["imagenet-resnet50"].recipe == Recipe(
        100, 896, 0.7, ramp=0.15, decay="steps", drops=(0.3, 0.6, 0.9), augmentation="resized-crop-flip"
    )
    assert {name for name, experiment in known.items() if experiment.recipe is None} == {"digits-mlp-tf"}


def test_a_file_gives_the_fields_it_names(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + 'decay = "steps"\ndrops = [0.5, 0.75]\n')
    assert read_recipe(path) == Recipe(3, 16, 0.1, decay="steps", drops=(0.5, 0.75))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "dropout = 0.1", "no field 'dropout'"),
        (GOOD + "weight_dekay = 0.1", "did you mean 'weight_decay'?"),
        (GOOD + "drops = " + 3000 * "[" + 3000 * "]", "is not a TOML file"),
        (GOOD + "# " + 70_000 * "x", "is longer than 64 kB"),
        ("[recipe]\n" + GOOD, "no field 'recipe'"),
        ("epochs = 3\nbatch_size = 16", "lacks the field 'learning_rate'"),
        (GOOD.replace("3", "0"), "'epochs' of a recipe is 0, expected a number from 1"),
        (GOOD.replace("16", "1.5"), "'batch_size' of a recipe is 1.5"),
        (GOOD.replace("3", "true"), "'epochs' of a recipe is True"),
        (GOOD.replace("0.1", "0"), "'learning_rate' of a recipe is 0, expected above 0"),
        (GOOD.replace("0.1", "inf"), "'learning_rate' of a recipe is inf"),
        (GOOD.replace("0.1", "nan"), "'learning_rate' of a recipe is nan"),
        (GOOD.replace("0.1", "'fast'"), "'learning_rate' of a recipe is 'fast'"),
        (GOOD + "momentum = 1", "'momentum' of a recipe is 1"),
        (GOOD + "weight_decay = -1", "'weight_decay' of a recipe is -1"),
        (GOOD + "drops = [0.5]", "'drops' of a recipe"),
        (GOOD + "drops = 0.5", "recipe.toml"),
        (GOOD + "drops = [0.5, 1.0]\ndecay = 'steps'", "'drops' of a recipe is (0.5, 1.0), expected shares in (0, 1)"),
        (GOOD + "decay = 'steps'", "'drops' of a recipe"),
        (GOOD + "precision = 'float16'", "expected one of float32, tf32, bf16"),
        (GOOD + "epochs", "is not a TOML file"),
    ],
)
def test_bad_files_are_one_line_errors(tmp_path, text, expected):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(HeldoutError) as error:
        read_recipe(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_recipes_are_one_line_errors(tmp_path):
    with pytest.raises(HeldoutError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(HeldoutError, match="digits-mlp-tf"):
        recipe_of(known_experiments()["digits-mlp-tf"])


def test_the_rate_rises_and_falls_in_lines():
    recipe = Recipe(1, 1, 0.4, ramp=0.2, decay="linear")
    assert [recipe.rate(step, 10) for step in (0, 1, 2, 6, 9)] == pytest.approx([0, 0.2, 0.4, 0.2, 0.05])


@pytest.mark.parametrize("drops", [[0.25, 0.5], np.array([0.25, 0.5]), np.float32([0.25, 0.5]), iter((0.25, 0.5))])
def test_drops_are_taken_as_other_numbers_are(drops):
    """Of an array, the training failed when its runs were written."""
    recipe = Recipe(1, 1, 1.0, decay="steps", drops=drops)
    assert recipe == Recipe(1, 1, 1.0, decay="steps", drops=(0.25, 0.5))
    assert hash(recipe) == hash(Recipe(1, 1, 1.0, decay="steps", drops=(0.25, 0.5)))
    assert {type(drop) for drop in recipe.drops} == {float}


@pytest.mark.parametrize("drops", [0.5, None, "0.5", [[0.5]], np.array([[0.5]])])
def test_drops_that_are_no_shares_are_one_line(drops):
    with pytest.raises(HeldoutError, match=r"field 'drops' of a recipe is .*, expected shares in \(0, 1\)"):
        Recipe(1, 1, 1.0, decay="steps", drops=drops)


def test_the_rate_drops_to_a_tenth():
    recipe = Recipe(1, 1, 1.0, ramp=0.1, decay="steps", drops=(0.3, 0.6))
    assert [recipe.rate(step, 10) for step in (0, 1, 2, 3, 6, 9)] == pytest.approx([0, 1, 1, 0.1, 0.01, 0.01])


def test_the_rate_stays():
    assert {Recipe(1, 1, 0.1).rate(step, 10) for step in range(10)} == {0.1}
