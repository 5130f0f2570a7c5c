"""Values of COCO's JSON files, also as other tools than COCO's write them."""

from collections.abc import Mapping

_NO = ("", "0", "0.0", "false", "none", "no")


def as_id(value: object) -> int | str | float | None:
    """An id as COCO has it: an int, also where the file has text or a float of one.

    Raises:
        ValueError: if it is neither number nor text.
    """
    if value is not None and not isinstance(value, (int, float, str)):
        raise ValueError(f"an id that is neither number nor text: {value!r}")
    try:
        number = int(value)
    except (OverflowError, TypeError, ValueError):
        return value
    same = str(number) == value if isinstance(value, str) else number == value
    return number if same else value


def as_box(item: Mapping) -> tuple[float, float, float, float]:
    """The box of an annotation: ymin, xmin, ymax, xmax.

    Raises:
        ValueError: if its `bbox` is not a list of four numbers.
    """
    bbox = item.get("bbox")
    try:
        if not isinstance(bbox, list):
            raise TypeError
        x, y, width, height = map(float, bbox)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"a bbox that is not four numbers: {bbox!r}") from None
    return y, x, y + height, x + width


def as_flag(value: object) -> bool:
    """Whether a flag such as `iscrowd` is set, also as text."""
    return str(value).strip().lower() not in _NO
