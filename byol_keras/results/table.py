"""The results of a run as one Markdown table, above the published figures."""

import re
from collections.abc import Iterator, Mapping

from rich.table import Table

from byol_keras.results.published import REFERENCES

ABSENT = "-"
# Suffix of benchmarks on few small images in the layout of published data.
TINY = "_tiny"

# Metric key -> column header, in the order of mmselfsup's BYOL page.
_HEADERS = (
    (r"svm/best_mAP", "SVM best layer"),
    (r"low_shot_svm/k(\d+)_mAP_cost_chosen_on_test", r"low-shot k=\1"),
    (r"linear_features/feature(\d)_top1", r"Feature\1"),
    (r"linear/top1", "AvgPool"),
    (r"linear/top1_best_epoch", "AvgPool, best epoch"),
    (r"linear_sweep/top1", "linear, rate chosen"),
    (r"knn/top1_k(\d+)", r"kNN k=\1"),
    (r"logistic/top1", "logistic"),
    (r"finetune/top1", "fine-tuned"),
    (r"detection_voc/(AP\d*)", r"VOC detection \1"),
    (r"detection_coco/(box|mask)_(AP\d*)", r"COCO \1 \2"),
    (r"segmentation_voc/mIoU", "VOC segmentation mIoU"),
    (r"segmentation_cityscapes/mIoU", "Cityscapes segmentation mIoU"),
)


def markdown(records: Mapping[str, dict]) -> str:
    """One row per model and per published reference, one column per metric.

    The metrics are those of mmselfsup's BYOL page. A benchmark with none of them has a
    column for each of its metrics. A reference has a row if it has a figure for any
    column. A benchmark whose name ends in "_tiny" uses other data than the published
    figures, which are then in columns of their own.

    Args:
        records: benchmark name -> record; see `records.make_record`.

    Returns:
        Markdown of several lines: the table, and notes below it.
    """
    header, *body = rows(records)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *body]
    below = notes(records)
    lines = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([*lines, *(["", *below] if below else [])])


def rows(records: Mapping[str, dict]) -> list[list[str]]:
    """The cells of the table in `markdown`: the header, then one row per model.

    Args:
        records: benchmark name -> record; see `records.make_record`.
    """
    columns = list(_columns(records))
    found = [["percent", *(_header(name, key) for name, key in columns)]]
    for model in _models(records):
        cells = [
            cell(records[name], model, key) if name in records else ABSENT
            for name, key in columns
        ]
        found.append([model, *cells])
    for reference in REFERENCES.values():
        figures = [reference.figures.get(_published_key(*c)) for c in columns]
        if any(figure is not None for figure in figures):
            cells = [ABSENT if figure is None else str(figure) for figure in figures]
            found.append([f"published: {reference.label}; {reference.source}", *cells])
    return found


def of_record(record: dict, name: str) -> Table:
    """A table of all metrics of one benchmark for the terminal, a column per model."""
    shown = Table(name)
    for model in record["results"]:
        shown.add_column(model.replace("_", " "), justify="right")
    for key in record["results"]["trained"]:
        shown.add_row(key, *(cell(record, m, key) for m in record["results"]))
    return shown


def cell(record: dict, model: str, key: str) -> str:
    """A mean, followed by the half-width of its interval for several seeds."""
    mean = record["results"].get(model, {}).get(key)
    if mean is None:
        return ABSENT
    text = f"{mean:.2f}"
    half_width = record["interval"].get(model, {}).get(key)
    return text if half_width is None else f"{text} ± {half_width:.2f}"


def _columns(records) -> Iterator[tuple[str, str]]:
    """Pairs of benchmark name and metric key, in the order of the headers."""
    pairs = [
        (name, key) for name in records for key in records[name]["results"]["trained"]
    ]
    places = {pair: _place(pair[1]) for pair in pairs}
    known = {name for name, key in pairs if places[name, key] < len(_HEADERS)}
    for place in range(len(_HEADERS) + 1):
        for name, key in pairs:
            shown = place < len(_HEADERS) or name not in known
            if places[name, key] == place and shown:
                yield name, key
                published = name.removesuffix(TINY), key
                if published[0] not in records and _is_published(*published):
                    yield published


def _place(key):
    """Index of a metric's pattern among the headers; their number if none matches."""
    for place, (pattern, _) in enumerate(_HEADERS):
        if re.fullmatch(pattern, key):
            return place
    return len(_HEADERS)


def _header(name, key):
    place, function = _place(key), key.partition("/")[0]
    if name.endswith(TINY):
        return _published_key(name, key)  # the header of a metric names its data set
    text = key
    if place < len(_HEADERS):
        text = re.fullmatch(_HEADERS[place][0], key).expand(_HEADERS[place][1])
    return text if name == function else f"{text} ({name})"


def _is_published(name, key):
    figures = _published_key(name, key)
    return any(figures in reference.figures for reference in REFERENCES.values())


def _published_key(name, key):
    return f"{name}/{key.partition('/')[2]}"


def _models(records):
    """The baselines of all records, and the trained backbone."""
    found = [name for r in records.values() for name in r["identity"]["baselines"]]
    return [*dict.fromkeys(found), "trained"]


def notes(records: Mapping[str, dict]) -> list[str]:
    """Notes for below the table: protocols, intervals, and the reasons for gaps."""
    found = []
    tiny = [name for name in records if name.endswith(TINY)]
    if tiny:
        found.append(
            f"{', '.join(tiny)}: few small images in the layout of the published data; "
            "not comparable with published figures."
        )
    if any("cost_chosen_on_test" in key for _, key in _columns(records)):
        found.append("low-shot: at the cost that is best on test images, as published.")
    counts = {len(record["seeds"]) for record in records.values() if record["interval"]}
    if counts:
        numbers = " or ".join(str(count) for count in sorted(counts))
        found.append(f"±: half of the 95 % interval (Student t) over {numbers} seeds.")
    gaps = {}
    for name, record in records.items():
        for model, reason in record["missing"].items():
            gaps.setdefault((model, reason), []).append(name)
    for (model, reason), names in gaps.items():
        found.append(f"{ABSENT} {model}, {', '.join(names)}: {reason}")
    return found
