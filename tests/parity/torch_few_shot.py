"""Small networks in plain PyTorch that no package has, as their checkpoints name the layers."""

import torch
from torch import nn


class CifarBlock(nn.Module):
    def __init__(self, inputs, width, stride, option="A"):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, width - inputs
        self.shortcut = nn.Sequential()
        if option == "B" and self.extra:
            projection = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if len(self.shortcut):
            x = self.shortcut(x)
        elif self.extra or self.stride > 1:
            side = torch.zeros_like(x[:, : self.extra // 2])
            x = torch.cat([side, x, side], 1)[:, :, :: self.stride, :: self.stride]
        return (y + x).relu()


class CifarResNet(nn.Module):
    def __init__(self, depth, option="A"):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for i, (inputs, width, stride) in enumerate([(16, 16, 1), (16, 32, 2), (32, 64, 2)], 1):
            blocks = [CifarBlock(inputs, width, stride, option)]
            blocks += [CifarBlock(width, width, 1) for _ in range(n - 1)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


def conv4(in_channels=3, width=64):
    """Conv-4 as a flat nn.Sequential; block b ends at index 4 b - 1."""
    layers = []
    for inputs in (in_channels, width, width, width):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


class ResNet12Block(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        projection = nn.Conv2d(inputs, width, 1, bias=False)
        self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x):
        act = nn.LeakyReLU(0.1)
        y = act(self.bn2(self.conv2(act(self.bn1(self.conv1(x))))))
        return nn.MaxPool2d(2)(act(self.bn3(self.conv3(y)) + self.downsample(x)))


class ResNet12(nn.Module):
    """`in_sequence`: whether a stage is an nn.Sequential of its one block."""

    def __init__(self, widths, in_sequence=True):
        super().__init__()
        for i, pair in enumerate(zip((3, *widths), widths, strict=False), 1):
            block = ResNet12Block(*pair)
            setattr(self, f"layer{i}", nn.Sequential(block) if in_sequence else block)

    def forward(self, x):
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class WideBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = None
        if inputs != width:
            self.convShortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x):
        active = self.bn1(x).relu()
        y = self.conv2(self.bn2(self.conv1(active)).relu())
        return y + (self.convShortcut(active) if self.convShortcut else x)


class WideGroup(nn.Module):
    def __init__(self, depth, inputs, width, stride):
        super().__init__()
        rest = [WideBlock(width, width, 1) for _ in range(depth - 1)]
        self.layer = nn.Sequential(WideBlock(inputs, width, stride), *rest)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth=28, factor=10):
        super().__init__()
        n = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = WideGroup(n, 16, 16 * factor, 1)
        self.block2 = WideGroup(n, 16 * factor, 32 * factor, 2)
        self.block3 = WideGroup(n, 32 * factor, 64 * factor, 2)
        self.bn1 = nn.BatchNorm2d(64 * factor)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(64 * factor, 5)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.relu(self.bn1(x)).mean((2, 3))


def relation_block(inputs, padding, pool):
    layers = [nn.Conv2d(inputs, 64, 3, padding=padding), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class RelationEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = relation_block(3, 0, pool=True)
        self.layer2 = relation_block(64, 0, pool=True)
        self.layer3 = relation_block(64, 1, pool=False)
        self.layer4 = relation_block(64, 1, pool=False)

    def forward(self, x):
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).flatten(1)


class RelationHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = relation_block(128, 0, pool=True)
        self.layer2 = relation_block(64, 0, pool=True)
        self.fc1 = nn.Linear(576, 8)
        self.fc2 = nn.Linear(8, 1)

    def forward(self, reference, query):
        x = self.layer2(self.layer1(torch.cat([reference, query], 1))).flatten(1)
        return self.fc2(self.fc1(x).relu()).sigmoid()[:, 0]
