"""Face networks in plain PyTorch, as insightface names the layers."""

from torch import nn


class IBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1:
            projection = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + (self.downsample(x) if self.downsample else x)


class IResNet(nn.Module):
    def __init__(self, depths):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        inputs = 64
        for i, (width, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), 1):
            blocks = [IBlock(inputs, width, 2)]
            blocks += [IBlock(width, width, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
            inputs = width
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


class Layers(nn.Module):
    """Modules one after the other under the name "layers"."""

    def __init__(self, *modules, residual=False):
        super().__init__()
        self.layers = nn.Sequential(*modules)
        self.residual = residual

    def forward(self, x):
        return self.layers(x) + x if self.residual else self.layers(x)


def linear_block(inputs, outputs, size=1, stride=1, padding=0, groups=1, act=False):
    first = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
    last = [nn.PReLU(outputs)] if act else []
    return Layers(first, nn.BatchNorm2d(outputs), *last)


def bottleneck(inputs, inner, outputs, stride):
    return Layers(
        linear_block(inputs, inner, act=True),
        linear_block(inner, inner, 3, stride, 1, groups=inner, act=True),
        linear_block(inner, outputs),
        residual=stride == 1,
    )


class MobileFaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                linear_block(3, 128, 3, 2, 1, act=True),
                linear_block(128, 128, 3, 1, 1, groups=64, act=True),
                bottleneck(128, 128, 128, 2),
                Layers(*(bottleneck(128, 128, 128, 1) for _ in range(4))),
                bottleneck(128, 256, 256, 2),
                Layers(*(bottleneck(256, 256, 256, 1) for _ in range(6))),
                bottleneck(256, 512, 256, 2),
                Layers(*(bottleneck(256, 256, 256, 1) for _ in range(2))),
            ]
        )
        self.conv_sep = linear_block(256, 512, act=True)
        self.features = Layers(
            linear_block(512, 512, 7, groups=512),
            nn.Flatten(),
            nn.Linear(512, 512, bias=False),
            nn.BatchNorm1d(512),
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))
