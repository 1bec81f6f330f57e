"""One form for every refused option: field, value, reason, remedy."""

from typing import Any


class Refusal(ValueError):
    """An option, or a combination of options, that cannot be honoured; its message is all that need be said."""


def refusal(field: str, value: Any, reason: str, remedy: str) -> Refusal:
    """
    Build the error for an option, or a combination of options, that cannot be honoured.

    Args:
        field (`str`):
            Name of the configuration field or trainer argument as the user wrote it.
        value (`Any`):
            The value it had.
        reason (`str`):
            Why it is refused, as a clause without a full stop.
        remedy (`str`):
            What to write instead, as an imperative without a full stop.

    Returns:
        [`Refusal`]: a `ValueError`, to be raised by the caller.

    Example:
    ```python
    >>> raise refusal("generation_budget", 0.5, "a batch needs at least one round", "set it to 1.0 or more")
    Refusal: `generation_budget=0.5` is refused: a batch needs at least one round. Remedy: set it to 1.0 or more.
    ```
    """
    return Refusal(f"`{field}={value!r}` is refused: {reason}. Remedy: {remedy}.")
