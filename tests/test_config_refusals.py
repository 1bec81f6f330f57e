"""Bad configurations, by hand and generated: each is refused at construction, in the form of every refusal."""

import math
from typing import Any

import pytest

from tests.refusal_cases import CONFIGURATIONS, DOCUMENT, document, parse, refuse


NOT_A_NUMBER = ["0.5", "", None, True, False, math.nan, math.inf, -math.inf, 1e39, 10**400, [], {}, 1j]
NOT_A_SWITCH = ["False", "", None, 0, 1, 1.0, math.nan, [], [True]]
NOT_A_CHOICE = ["", "SHRINK", None, True, 0, 1.5, math.nan, [], ["shrink"], {}]
NOT_NAMES = ["accuracy", "", [], {}, [1], [""], [None], ["a", "a"], {"a": 1}, 5, True, math.nan]
NOT_A_COLUMN = ["", 3, True, [], ["rate"], math.nan]
DYNAMIC = {"dynamic_sampling": True}
# Field: (values that it cannot have, settings under which it counts)
WRONG: dict[str, dict[str, tuple[list[Any], dict[str, Any]]]] = {
    "DAPOConfig": {
        "epsilon_high": ([value for value in NOT_A_NUMBER if value is not None] + [-1.0], {}),
        "epsilon": ([*NOT_A_NUMBER, -1.0], {}),
        "delta": ([value for value in NOT_A_NUMBER if value is not None] + [-1.0, 0.0, 1.0], {}),
        "dynamic_sampling": (NOT_A_SWITCH, {}),
        "filter_rewards": (NOT_NAMES, {}),
        "filter_tolerance": ([*NOT_A_NUMBER, -1e-9], {}),
        "generation_budget": ([*NOT_A_NUMBER, 0, -1, 0.99, 1001], {}),
        "on_exhausted": (NOT_A_CHOICE, {}),
        "carry_surplus": (NOT_A_SWITCH, {}),
        "max_staleness": ([*NOT_A_NUMBER, 0, -1, 1.5, 10**9], {}),
        "prompt_selection": (NOT_A_CHOICE, {}),
        "pass_rate_column": (NOT_A_COLUMN, {"prompt_selection": "predictive"}),
        "selection_cost": (NOT_A_CHOICE, {"prompt_selection": "predictive"}),
        "soft_overlong_cache": ([*NOT_A_NUMBER, -1, -0.5, 1.5, 9, 1e9], {}),
        "soft_overlong_weight": ([*NOT_A_NUMBER, -0.1], {}),
        "token_weighting": (NOT_A_CHOICE, {}),
        "token_weight_normalization": (NOT_A_CHOICE, {}),
    },
    "PGGRPOConfig": {
        "pg_beta": ([*NOT_A_NUMBER, 0, -1, 1e5], {}),
        "pg_length_exponent": ([*NOT_A_NUMBER, -0.1, 1.1, 7], {}),
        "ratio_level": (NOT_A_CHOICE, {}),
        "beta": ([*NOT_A_NUMBER, -0.001], {}),
        "loss_type": (NOT_A_CHOICE, {}),
        "use_bias_correction_kl": ([True], {}),
        "importance_sampling_level": ([value for value in NOT_A_CHOICE if value is not None], {}),
        "dynamic_sampling": (NOT_A_SWITCH, {}),
        "soft_overlong_cache": ([*NOT_A_NUMBER, -1, 1.5, 9], {}),
        "generation_budget": ([*NOT_A_NUMBER, 0.5], DYNAMIC),
    },
    "PGDPOConfig": {
        "pg_beta": ([*NOT_A_NUMBER, 0, -1, 1e5], {}),
        "pg_length_exponent": ([*NOT_A_NUMBER, -0.1, 1.1], {}),
        "beta": ([value for value in NOT_A_NUMBER if value is not None] + [0.3], {}),
        "epsilon": ([*NOT_A_NUMBER, 0.0, -0.2], {}),
        "epsilon_high": ([value for value in NOT_A_NUMBER if value is not None] + [0.0, -0.2], {}),
        "delta": ([value for value in NOT_A_NUMBER if value is not None] + [1.0, 0.5], {}),
        "pg_aggregation": (NOT_A_CHOICE, {}),
        "dynamic_pairs": (NOT_A_SWITCH, {}),
        "pair_budget": ([*NOT_A_NUMBER, 0, 0.5], {"dynamic_pairs": True}),
        "loss_type": (["sigmoid", [], ["pg", "pg"], "", None, 1, [None], {}], {}),
        "loss_weights": ([[0.0], [-1.0], [math.nan], ["1"], [None], [True]], {}),
    },
}
BY_HAND = [(name, changes, field) for name, (_, cases) in CONFIGURATIONS.items() for changes, field in cases]


@pytest.mark.parametrize(("name", "changes", "field"), BY_HAND, ids=lambda value: str(value)[:70])
def test_what_cannot_be_honoured_is_refused(name, changes, field):
    assert refuse(CONFIGURATIONS[name][0], changes)["field"] == field


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in WRONG.items() for field in fields], ids=str
)
def test_values_of_another_type_or_size_are_refused(tmp_path, name, field):
    build, (values, settings) = CONFIGURATIONS[name][0], WRONG[name][field]
    passed, failed_otherwise = [], []
    for value in values:
        try:
            build(tmp_path, **{**settings, field: value})
            passed.append(value)
        except Exception as error:
            said = parse(error) if isinstance(error, ValueError) and "is refused" in str(error) else None
            if said is None or said["field"] != field:
                failed_otherwise.append((value, repr(error)))
    assert (passed, failed_otherwise) == ([], [])


def test_the_table_in_the_docs_is_the_one_of_these_cases():
    assert DOCUMENT.read_text() == document(), "run `python -m tests.refusal_cases`"
