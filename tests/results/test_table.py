"""The Markdown table of results, character by character."""

from rich.console import Console

from byol_keras.results import table
from byol_keras.results.records import make_record

PAGE = "mmselfsup's BYOL page (0.x)"
PUBLISHED_200 = f"published: ResNet-50, ImageNet-1k, 200 epochs, 8xb32-accum16; {PAGE}"
PUBLISHED_200_LARGE = f"published: ResNet-50, ImageNet-1k, 200 epochs, 16xb256; {PAGE}"
PUBLISHED_300 = (
    f"published: ResNet-50, ImageNet-1k, 300 epochs, 8xb32-accum16; {PAGE}; "
    "AvgPool: its model zoo"
)


def record(per_seed, baselines=(), missing=(), seeds=(0,)):
    identity = {"seeds": list(seeds), "baselines": list(baselines)}
    return make_record(per_seed, dict(missing), identity, seconds=1.0)


def knn_record():
    return record(
        {
            "raw_pixels": [{"knn/top1_k20": 50.0, "knn/top5_k20": 90.0}],
            "random_init": [
                {"knn/top1_k20": 40.0, "knn/top5_k20": 80.0},
                {"knn/top1_k20": 42.0, "knn/top5_k20": 80.0},
            ],
            "trained": [{"knn/top1_k20": 60.125, "knn/top5_k20": 99.0}],
        },
        baselines=("raw_pixels", "random_init"),
        seeds=(0, 1),
    )


def features_record():
    return record(
        {"trained": [{"linear_features/feature1_top1": 12.5}]},
        baselines=("raw_pixels", "random_init"),
        missing={"raw_pixels": "no maps", "random_init": "no maps"},
        seeds=(0, 1),
    )


def test_table_of_two_benchmarks_is_this_text():
    # 1.0 from the mean, two seeds: t of one degree 12.7062, times √2 / √2.
    assert table.markdown(
        {"knn": knn_record(), "linear_features": features_record()}
    ) == (
        "| percent | Feature1 | kNN k=20 |\n"
        "| --- | ---: | ---: |\n"
        "| raw_pixels | - | 50.00 |\n"
        "| random_init | - | 41.00 ± 12.71 |\n"
        "| trained | 12.50 | 60.12 |\n"
        f"| {PUBLISHED_200} | 15.16 | 64.2 |\n"
        f"| {PUBLISHED_200_LARGE} | 15.41 | - |\n"
        f"| {PUBLISHED_300} | - | 66.3 |\n"
        "| published: ResNet-50, ImageNet-1k, 200 epochs, bs2048-accumulate2-fp16; "
        "OpenSelfSup's model zoo (detection by detectron2) | 15.52 | - |\n"
        "| published: ResNet-50, ImageNet-1k, 300 epochs, bs256-accumulate16; "
        "OpenSelfSup's model zoo (detection by detectron2) | 14.07 | - |\n"
        "\n"
        "±: half of the 95 % interval (Student t) over 2 seeds.\n"
        "- raw_pixels, linear_features: no maps\n"
        "- random_init, linear_features: no maps"
    )


def test_renamed_benchmark_has_its_name_in_the_header_and_no_published_figure():
    text = table.markdown(
        {
            "small": record({"trained": [{"knn/top1_k20": 1.0}]}),
            "finetune_1percent": record({"trained": [{"finetune/top1": 2.0}]}),
        }
    )
    assert text == (
        "| percent | kNN k=20 (small) | fine-tuned (finetune_1percent) |\n"
        "| --- | ---: | ---: |\n"
        "| trained | 1.00 | 2.00 |\n"
        "| published: ResNet-50, ImageNet-1k, 1000 epochs, batch 4096; "
        "arXiv 2006.07733, tables 1 and 2, protocols of its own | - | 53.2 |"
    )


def test_tiny_benchmark_and_published_figures_have_separate_columns():
    keys = ("detection_voc/AP50", "detection_voc/AP")
    tiny = record({"trained": [dict.fromkeys(keys, 99.0)]})
    assert table.markdown({"detection_voc_tiny": tiny}) == (
        "| percent | detection_voc_tiny/AP50 | VOC detection AP50 "
        "| detection_voc_tiny/AP |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| trained | 99.00 | - | 99.00 |\n"
        f"| {PUBLISHED_200} | - | 80.35 | - |\n"
        "\n"
        "detection_voc_tiny: few small images in the layout of the published data; not "
        "comparable with published figures."
    )


def test_published_column_appears_once_beside_the_full_benchmark():
    mean_iou = record({"trained": [{"segmentation_voc/mIoU": 50.0}]})
    records = {"segmentation_voc_tiny": mean_iou, "segmentation_voc": mean_iou}
    assert table.markdown(records).splitlines()[:3] == [
        "| percent | segmentation_voc_tiny/mIoU | VOC segmentation mIoU |",
        "| --- | ---: | ---: |",
        "| trained | 50.00 | 50.00 |",
    ]


def test_cityscapes_has_a_column_for_its_mean_only():
    keys = ("segmentation_cityscapes/mIoU", "segmentation_cityscapes/IoU_road")
    records = {"segmentation_cityscapes": record({"trained": [dict.fromkeys(keys, 1)]})}
    assert table.markdown(records).splitlines()[0] == (
        "| percent | Cityscapes segmentation mIoU |"
    )


def test_columns_are_in_the_order_of_the_published_page():
    keys = [
        "segmentation_voc/mIoU",
        "detection_coco/mask_AP50",
        "detection_voc/AP75",
        "knn/top1_k10",
        "linear/top1",
        "linear_features/feature5_top1",
        "low_shot_svm/k96_mAP_cost_chosen_on_test",
        "svm/best_mAP",
    ]
    records = {
        key.partition("/")[0]: record({"trained": [{key: 1.0, "x/other": 2.0}]})
        for key in keys
    }
    assert table.markdown(records).splitlines()[0] == (
        "| percent | SVM best layer | low-shot k=96 | Feature5 | AvgPool | kNN k=10 "
        "| VOC detection AP75 | COCO mask AP50 | VOC segmentation mIoU |"
    )


def test_low_shot_has_a_note_on_the_choice_of_its_cost():
    key = "low_shot_svm/k1_mAP_cost_chosen_on_test"
    low_shot = record({"trained": [{"low_shot_svm/k1_mAP": 1.0, key: 2.0}]})
    lines = table.markdown({"low_shot_svm": low_shot}).splitlines()
    assert lines[0] == "| percent | low-shot k=1 |"
    assert lines[2] == "| trained | 2.00 |"
    assert lines[-1] == (
        "low-shot: at the cost that is best on test images, as published."
    )


def test_benchmark_without_a_published_metric_has_all_its_metrics():
    text = table.markdown({"own": record({"trained": [{"own/a": 1.0, "own/b": 2.0}]})})
    assert text == (
        "| percent | own/a | own/b |\n| --- | ---: | ---: |\n| trained | 1.00 | 2.00 |"
    )


def test_terminal_table_has_every_metric_of_a_record():
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table.of_record(knn_record(), "small"))
    lines = capture.get().replace("│", " ").replace("┃", " ").splitlines()
    assert lines[1].split() == ["small", "raw", "pixels", "random", "init", "trained"]
    assert [line.split() for line in lines if "knn/" in line] == [
        ["knn/top1_k20", "50.00", "41.00", "±", "12.71", "60.12"],
        ["knn/top5_k20", "90.00", "80.00", "±", "0.00", "99.00"],
    ]
