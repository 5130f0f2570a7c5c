"""Published figures of BYOL, as rows to compare results with.

All figures are of a ResNet-50 pre-trained on ImageNet-1k, in percent. Keys begin with
the name of the benchmark, which may differ from the name of its function:
`linear_features_places205/feature1_top1`.
"""

from typing import NamedTuple

LOW_SHOT_K = (1, 2, 4, 8, 16, 32, 64, 96)
KNN_K = (10, 20, 100, 200)


class Reference(NamedTuple):
    """One published pre-training run.

    Args:
        label: what was trained.
        source: who published it.
        figures: metric key -> percent, with the published digits.
    """

    label: str
    source: str
    figures: dict[str, float]


def _low_shot(*figures):
    keys = [f"low_shot_svm/k{k}_mAP_cost_chosen_on_test" for k in LOW_SHOT_K]
    return dict(zip(keys, figures, strict=True))


def _levels(name, *figures):
    keys = [f"{name}/feature{level}_top1" for level in range(1, 6)]
    return dict(zip(keys, figures, strict=True))


def _avgpool(figure):
    # Published for the best epoch on the test images; a row for both metrics.
    return {"linear/top1": figure, "linear/top1_best_epoch": figure}


def _knn(*figures):
    return dict(zip([f"knn/top1_k{k}" for k in KNN_K], figures, strict=True))


_PAGE = "mmselfsup's BYOL page (0.x)"
_OPENSELFSUP = "OpenSelfSup's model zoo (detection by detectron2)"

# Name of the published configuration -> its figures.
REFERENCES = {
    "byol_resnet50_8xb32-accum16-coslr-200e_in1k": Reference(
        "ResNet-50, ImageNet-1k, 200 epochs, 8xb32-accum16",
        # The figures come from at least two training runs: those of SVM, detection and
        # segmentation are older than the weights behind the others.
        _PAGE,
        {
            "svm/best_mAP": 86.31,
            **_low_shot(45.37, 56.83, 68.47, 74.12, 78.30, 81.53, 83.56, 84.73),
            **_levels("linear_features", 15.16, 35.26, 47.77, 63.10, 71.21),
            **_avgpool(71.72),
            **_levels("linear_features_places205", 21.25, 36.55, 43.66, 50.74, 53.82),
            **_knn(63.9, 64.2, 62.9, 61.9),
            "detection_voc/AP50": 80.35,
            "detection_coco/box_AP": 40.9,
            "detection_coco/box_AP50": 61.0,
            "detection_coco/box_AP75": 44.6,
            "detection_coco/mask_AP": 36.8,
            "detection_coco/mask_AP50": 58.1,
            "detection_coco/mask_AP75": 39.5,
            "segmentation_voc/mIoU": 67.16,
        },
    ),
    "byol_resnet50_16xb256-coslr-200e_in1k": Reference(
        "ResNet-50, ImageNet-1k, 200 epochs, 16xb256",
        _PAGE,
        {
            **_levels("linear_features", 15.41, 35.15, 47.77, 62.59, 71.85),
            **_avgpool(71.88),
        },
    ),
    "byol_resnet50_8xb32-accum16-coslr-300e_in1k": Reference(
        "ResNet-50, ImageNet-1k, 300 epochs, 8xb32-accum16",
        f"{_PAGE}; AvgPool: its model zoo",
        {
            **_avgpool(72.93),
            **_levels("linear_features_places205", 21.18, 36.68, 43.42, 51.04, 54.06),
            **_knn(66.1, 66.3, 65.2, 64.4),
        },
    ),
    "r50_bs2048_accumulate2_ep200_fp16": Reference(
        "ResNet-50, ImageNet-1k, 200 epochs, bs2048-accumulate2-fp16",
        _OPENSELFSUP,
        {
            "svm/best_mAP": 85.86,
            **_levels("linear_features", 15.52, 34.50, 47.22, 62.78, 71.61),
            "detection_voc_detectron2/AP": 49.00,
            "detection_voc_detectron2/AP50": 79.60,
            "detection_voc_detectron2/AP75": 52.80,
        },
    ),
    "r50_bs256_accumulate16_ep300": Reference(
        "ResNet-50, ImageNet-1k, 300 epochs, bs256-accumulate16",
        _OPENSELFSUP,
        {
            "svm/best_mAP": 86.58,
            **_levels("linear_features", 14.07, 34.44, 47.22, 63.08, 72.35),
        },
    ),
    "paper_resnet50_1000e": Reference(
        "ResNet-50, ImageNet-1k, 1000 epochs, batch 4096",
        "arXiv 2006.07733, tables 1 and 2, protocols of its own",
        {
            # Another protocol than "linear", the page's AvgPool.
            "linear_sweep/top1": 74.3,
            "finetune_1percent/top1": 53.2,
            "finetune_10percent/top1": 68.8,
        },
    ),
}
