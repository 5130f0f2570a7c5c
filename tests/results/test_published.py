"""Published figures, typed a second time from their sources."""

import pytest

from byol_keras.results.published import REFERENCES

PAGE_200 = "byol_resnet50_8xb32-accum16-coslr-200e_in1k"
PAGE_200_LARGE = "byol_resnet50_16xb256-coslr-200e_in1k"
PAGE_300 = "byol_resnet50_8xb32-accum16-coslr-300e_in1k"


@pytest.mark.parametrize(
    ("configuration", "key", "figure"),
    [
        (PAGE_200, "svm/best_mAP", 86.31),
        (PAGE_200, "low_shot_svm/k1_mAP_cost_chosen_on_test", 45.37),
        (PAGE_200, "low_shot_svm/k16_mAP_cost_chosen_on_test", 78.30),
        (PAGE_200, "low_shot_svm/k96_mAP_cost_chosen_on_test", 84.73),
        (PAGE_200, "linear_features/feature1_top1", 15.16),
        (PAGE_200, "linear_features/feature4_top1", 63.10),
        (PAGE_200, "linear/top1", 71.72),
        (PAGE_200, "linear_features_places205/feature5_top1", 53.82),
        (PAGE_200, "knn/top1_k10", 63.9),
        (PAGE_200, "knn/top1_k200", 61.9),
        (PAGE_200, "detection_voc/AP50", 80.35),
        (PAGE_200, "detection_coco/box_AP75", 44.6),
        (PAGE_200, "detection_coco/mask_AP", 36.8),
        (PAGE_200, "segmentation_voc/mIoU", 67.16),
        (PAGE_200_LARGE, "linear_features/feature5_top1", 71.85),
        (PAGE_200_LARGE, "linear/top1", 71.88),
        (PAGE_200_LARGE, "linear/top1_best_epoch", 71.88),
        (PAGE_300, "linear/top1", 72.93),
        (PAGE_300, "linear_features_places205/feature2_top1", 36.68),
        (PAGE_300, "knn/top1_k20", 66.3),
        ("r50_bs2048_accumulate2_ep200_fp16", "detection_voc_detectron2/AP", 49.00),
        ("r50_bs256_accumulate16_ep300", "svm/best_mAP", 86.58),
        ("paper_resnet50_1000e", "linear_sweep/top1", 74.3),
        ("paper_resnet50_1000e", "finetune_1percent/top1", 53.2),
        ("paper_resnet50_1000e", "finetune_10percent/top1", 68.8),
    ],
)
def test_figure_equals_the_published_one(configuration, key, figure):
    assert REFERENCES[configuration].figures[key] == figure


def test_page_has_no_unpublished_figures():
    assert "knn/top1_k10" not in REFERENCES[PAGE_200_LARGE].figures
    assert "svm/best_mAP" not in REFERENCES[PAGE_300].figures
    assert "detection_voc/AP" not in REFERENCES[PAGE_200].figures


def test_paper_has_no_figure_of_the_protocol_of_the_page():
    assert "linear/top1" not in REFERENCES["paper_resnet50_1000e"].figures


def test_label_has_backbone_data_and_epochs():
    for reference in REFERENCES.values():
        assert reference.label.startswith("ResNet-50, ImageNet-1k, ")
        assert " epochs, " in reference.label
