"""BYOL of lightly, a PyTorch library, with the settings of our runs, for comparison.

    python experiments/clothing_resnet18_lightly/train_with_lightly.py --epochs 30 \
        --seed 0 --images runs/clothing_160/train --out runs/lightly/seed0.npz

Needs an environment of its own with `pip install lightly torch torchvision`. Network,
views, optimizer, schedules, batch size and number of steps are those of
gin/pretrain/image_folder_resnet18_laptop.gin with plain projections and half its
learning rate. Heads, loss and EMA are lightly's. Writes the features of all images
before and after training, and the labels.
"""

import argparse
import copy
import math
import pathlib
import time

import numpy as np
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models.resnet import BasicBlock, ResNet

SIZE, SHORT_SIDE, BATCH_SIZE = 32, 48, 64
CHANNELS, HIDDEN_UNITS, OUTPUT_UNITS = 16, 1024, 128
LEARNING_RATE, WEIGHT_DECAY, WARMUP_EPOCHS, BASE_TAU = 1e-3, 1e-4, 3, 0.97
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NarrowResNet(ResNet):
    """ResNet-18 of a quarter of the channels, with a 3x3 stem of stride 2."""

    def __init__(self):
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation = CHANNELS, 1
        self.groups, self.base_width = 1, 64
        self.conv1 = nn.Conv2d(3, CHANNELS, 3, 2, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)
        self.maxpool, self.fc = nn.Identity(), nn.Identity()
        for stage in range(4):
            stride = 1 if stage == 0 else 2
            layer = self._make_layer(BasicBlock, CHANNELS * 2**stage, 2, stride)
            setattr(self, f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")


class TwoViews:
    """Two views of an image, as gin/views/natural_32.gin configures them."""

    def __init__(self):
        jitter = transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)
        bicubic = transforms.InterpolationMode.BICUBIC
        shared = [
            transforms.RandomResizedCrop(SIZE, (0.5, 1.0), interpolation=bicubic),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], 0.8),
            transforms.RandomGrayscale(0.5),
        ]
        last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        solarize = transforms.RandomSolarize(128, 0.2)
        self.view1 = transforms.Compose([*shared, *last])
        self.view2 = transforms.Compose([*shared, solarize, *last])

    def __call__(self, image):
        return self.view1(image), self.view2(image)


def read_images(folder):
    """RGB images of a short side of 48 pixels, and the labels of their folders."""
    images, labels = [], []
    for label, path in enumerate(sorted(folder.iterdir())):
        for file in sorted(path.iterdir()):
            with Image.open(file) as image:
                scale = SHORT_SIDE / min(image.size)
                size = [max(SHORT_SIDE, round(scale * side)) for side in image.size]
                rgb = image.convert("RGB")
                images.append(rgb.resize(size, Image.Resampling.BILINEAR))
            labels.append(label)
    return images, np.array(labels)


@torch.no_grad()
def features(backbone, images):
    """float32 `[N, D]` of center crops of the images, without augmentation."""
    plain = transforms.Compose(
        [
            transforms.Resize(SIZE, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    backbone.eval()
    batches = [images[i : i + 256] for i in range(0, len(images), 256)]
    found = [backbone(torch.stack([plain(image) for image in b])) for b in batches]
    backbone.train()
    return torch.cat(found).numpy()


def cosine(step, total):
    """From 1 at step 0 to 0 at the last step."""
    return 0.5 * (1.0 + math.cos(math.pi * step / total))


def train(images, epochs, seed):
    """The backbone before and after training, and the seconds of the training."""
    torch.manual_seed(seed)
    backbone = NarrowResNet()
    start = copy.deepcopy(backbone)
    width = 8 * CHANNELS
    online = nn.Sequential(
        backbone, BYOLProjectionHead(width, HIDDEN_UNITS, OUTPUT_UNITS)
    )
    target = copy.deepcopy(online)
    deactivate_requires_grad(target)
    predictor = BYOLPredictionHead(OUTPUT_UNITS, HIDDEN_UNITS, OUTPUT_UNITS)
    loss_fn = NegativeCosineSimilarity()
    weights = [*online.parameters(), *predictor.parameters()]
    # Ours multiplies the decay by the learning rate too, as torch does.
    optimizer = torch.optim.AdamW(weights, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    per_epoch = len(images) // BATCH_SIZE
    total, warmup = epochs * per_epoch, WARMUP_EPOCHS * per_epoch
    views, begin = TwoViews(), time.perf_counter()
    for step in range(total):
        if step % per_epoch == 0:
            order = torch.randperm(len(images))
        place = step % per_epoch * BATCH_SIZE
        pairs = [views(images[i]) for i in order[place : place + BATCH_SIZE]]
        view1, view2 = (torch.stack(view) for view in zip(*pairs, strict=True))
        decayed = cosine(step - warmup, total - warmup)
        rate = LEARNING_RATE * (step / warmup if step < warmup else decayed)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            z1, z2 = target(view1), target(view2)
        p1, p2 = predictor(online(view1)), predictor(online(view2))
        # lightly's loss is the negative cosine; BYOL's is 2 - 2 cos for each direction.
        loss = 2.0 * (loss_fn(p1, z2) + loss_fn(p2, z1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_momentum(online, target, 1.0 - (1.0 - BASE_TAU) * cosine(step, total))
        if (step + 1) % per_epoch == 0:
            print(f"epoch {(step + 1) // per_epoch} loss {4 + loss.item():.3f}")
    return start, backbone, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    images, labels = read_images(arguments.images)
    start, trained, seconds = train(images, arguments.epochs, arguments.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        arguments.out,
        random_init=features(start, images),
        trained=features(trained, images),
        labels=labels,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
