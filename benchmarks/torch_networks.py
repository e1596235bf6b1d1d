"""Networks and training steps of `throughput.py` in idiomatic PyTorch.

They use strided convolutions, nearest-neighbour interpolation followed by a convolution,
grid_sample for the augmentation, autograd and torch.optim.Adam, with the same parameters and the
same function as ours.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

ROTATION, SCALE, SHEAR, SHIFT = math.radians(15), 0.15, math.radians(12), 2.5 / 28
STAGES = {"conv": 3, "mlp": 2}


def leaky(x):
    return F.leaky_relu(x, 0.01)


def dense(sizes):
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))


class Encoder(nn.Module):
    """Stride-2 convolutions with `filters` channels, or dense layers if there are none."""

    def __init__(self, shape, filters, hidden):
        super().__init__()
        height, width, channels = shape
        self.stages = None
        if filters:
            pairs = zip([channels, *filters], filters, strict=False)
            self.stages = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairs)
            extra = [-side % 2 ** len(filters) for side in (width, height)]
            self.pad = [part for e in extra for part in (e // 2, e - e // 2)]
            grid = [math.ceil(side / 2 ** len(filters)) for side in (height, width)]
            self.out_dims = grid[0] * grid[1] * filters[-1]
        else:
            self.layers = dense([height * width * channels] + [hidden] * STAGES["mlp"])
            self.out_dims = hidden

    def forward(self, x):
        if self.stages is None:
            x = x.flatten(1)
            for layer in self.layers:
                x = leaky(layer(x))
            return x
        x = F.pad(x, self.pad)
        for stage in self.stages:
            x = leaky(stage(x))
        return x.flatten(1)


class Decoder(nn.Module):
    def __init__(self, shape, latent_dims, filters, hidden):
        super().__init__()
        height, width, channels = self.shape = shape
        self.conv = bool(filters)
        if self.conv:
            back = filters[::-1]
            grid = [math.ceil(side / 2 ** len(filters)) for side in (height, width)]
            self.grid = (back[0], *grid)
            self.dense = nn.Linear(latent_dims, math.prod(self.grid))
            pairs = zip(back, [*back[1:], channels], strict=True)
            self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in pairs)
            self.first = [(-side % 2 ** len(filters)) // 2 for side in (height, width)]
        else:
            self.layers = dense([latent_dims] + [hidden] * STAGES["mlp"])
            self.out = nn.Linear(hidden, height * width * channels)

    def forward(self, z):
        height, width, channels = self.shape
        if not self.conv:
            for layer in self.layers:
                z = leaky(layer(z))
            return self.out(z).view(-1, channels, height, width)
        x = leaky(self.dense(z)).view(-1, *self.grid)
        for number, stage in enumerate(self.stages):
            x = stage(F.interpolate(x, scale_factor=2, mode="nearest"))
            x = leaky(x) if number + 1 < len(self.stages) else x
        top, left = self.first
        return x[:, :, top : top + height, left : left + width]


def draw(output):
    mean, log_var = output.chunk(2, -1)
    log_var = log_var.clamp(-8, 6)
    return mean, log_var, mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)


def reconstruction(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


def kl_standard(mean, log_var):
    return 0.5 * (log_var.exp() + mean**2 - 1 - log_var).sum(-1).mean()


class VAE(nn.Module):
    def __init__(self, shape, filters, latent_dims, hidden, **_):
        super().__init__()
        self.encoder = Encoder(shape, filters, hidden)
        self.head = nn.Linear(self.encoder.out_dims, 2 * latent_dims)
        self.decoder = Decoder(shape, latent_dims, filters, hidden)

    def loss(self, x, partners):
        mean, log_var, z = draw(self.head(self.encoder(x)))
        return reconstruction(self.decoder(z), x) + kl_standard(mean, log_var)


class Classifier(nn.Module):
    def __init__(self, shape, arch, hidden):
        super().__init__()
        stages = max(1, round(math.log2(min(shape[:2]) / 7)))
        filters = [32, *[64] * (stages - 1)] if arch == "conv" else None
        self.encoder = Encoder(shape, filters, hidden)
        self.hidden = nn.Linear(self.encoder.out_dims, 128)
        self.norm = nn.BatchNorm1d(128)

    def forward(self, x, judging=False):
        """Return features; if `judging`, with constant weights and the running statistics."""
        if not judging:
            return F.relu(self.norm(self.hidden(self.encoder(x))))
        fixed = {name: value.detach() for name, value in self.encoder.named_parameters()}
        x = torch.func.functional_call(self.encoder, fixed, (x,))
        x = F.linear(x, self.hidden.weight.detach(), self.hidden.bias.detach())
        mean, var = self.norm.running_mean, self.norm.running_var
        scale = self.norm.weight.detach() / torch.sqrt(var + self.norm.eps)
        return F.relu((x - mean) * scale + self.norm.bias.detach())


class GMVAE(nn.Module):
    """The default model: augmented pairs, twenty heads, the sample term."""

    def __init__(self, shape, filters, latent_dims, hidden, arch, K, w_dims, heads):
        super().__init__()
        self.encoder = Encoder(shape, filters, hidden)
        self.z_head = nn.Linear(self.encoder.out_dims, 2 * latent_dims)
        self.w_head = nn.Linear(self.encoder.out_dims, 2 * w_dims)
        self.decoder = Decoder(shape, latent_dims, filters, hidden)
        self.prior = nn.ModuleList([nn.Linear(w_dims, 128), nn.Linear(128, K * 2 * latent_dims)])
        self.classifier = Classifier(shape, arch, hidden)
        self.heads = nn.Linear(128, heads * K)
        self.K, self.num_heads, self.w_dims = K, heads, w_dims
        self.register_buffer("running", torch.zeros(heads))
        self.register_buffer("chosen", torch.tensor(0))

    def components(self, w):
        out = self.prior[1](leaky(self.prior[0](w))).view(len(w), self.K, -1)
        mean, log_var = out.chunk(2, -1)
        return mean, log_var.clamp(-8, 6)

    def log_q(self, features):
        return F.log_softmax(self.heads(features).view(-1, self.num_heads, self.K), -1)

    def loss(self, x, partners):
        features = self.encoder(x)
        mean, log_var, z = draw(self.z_head(features))
        w_mean, w_log_var, w = draw(self.w_head(features))
        with torch.no_grad():
            log_q = self.of_chosen(self.log_q(self.classifier(x)))
        p_mean, p_log_var = self.components(w)
        ratio = log_var[:, None] - p_log_var
        squared = (mean[:, None] - p_mean) ** 2 * torch.exp(-p_log_var)
        kl_z = (log_q.exp() * 0.5 * (ratio.exp() + squared - 1 - ratio).sum(-1)).sum(-1).mean()
        kl_y = (log_q.exp() * log_q).sum(-1).mean() + math.log(self.K)
        bound = reconstruction(self.decoder(z), x) + kl_z + kl_standard(w_mean, w_log_var) + kl_y
        return bound + self.pair_loss(x, partners) + 3 * self.sample_term(max(1, len(x) // 4))

    def pair_loss(self, x, partners):
        pairs = distorted(torch.cat([x, partners]))
        one, other = self.log_q(self.classifier(pairs)).chunk(2)
        mean = 0.5 * (one.exp().mean(0) + other.exp().mean(0))
        negative_entropy = (mean * mean.clamp_min(1e-12).log()).sum(-1)
        agreement = torch.logsumexp(one + other, -1).mean(0)
        losses = -agreement + 2 * negative_entropy + math.log(self.K)
        with torch.no_grad():
            self.running.mul_(0.99).add_(losses, alpha=0.01)
            best = self.running.argmin()
            in_use = self.running.index_select(0, self.chosen.view(1))[0]
            better = in_use - self.running.min() > 0.01
            self.chosen.copy_(torch.where(better, best, self.chosen))
        return losses.mean()

    def sample_term(self, num):
        y = torch.randint(0, self.K, (num,))
        mean, log_var = self.components(torch.randn(num, self.w_dims))
        rows = torch.arange(num)
        z = mean[rows, y] + torch.exp(0.5 * log_var[rows, y]) * torch.randn_like(mean[:, 0])
        samples = torch.sigmoid(self.decoder(z))
        features = self.classifier(samples, judging=True)
        logits = F.linear(features, self.heads.weight.detach(), self.heads.bias.detach())
        log_q = F.log_softmax(self.of_chosen(logits.view(num, self.num_heads, self.K)), -1)
        return -log_q[rows, y].mean()

    def of_chosen(self, outputs):
        return outputs.index_select(1, self.chosen.view(1))[:, 0]


def distorted(x):
    """Apply random affine maps with bilinear interpolation and a continued border."""
    batch, _, height, width = x.shape
    u = 2 * torch.rand(6, batch) - 1
    angle, tangent = ROTATION * u[0], torch.tan(SHEAR * u[1])
    scale_y, scale_x = 1 + SCALE * u[2], 1 + SCALE * u[3]
    cos, sin, aspect = torch.cos(angle), torch.sin(angle), height / width
    rows_of_x = [scale_x * cos, scale_x * (sin + cos * tangent) * aspect, 2 * SHIFT * u[5]]
    rows_of_y = [-scale_y * sin / aspect, scale_y * (cos - sin * tangent), 2 * SHIFT * u[4]]
    theta = torch.stack([torch.stack(rows_of_x, -1), torch.stack(rows_of_y, -1)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, "bilinear", "border", align_corners=False)


def make_step(model, images, partners_of, batchsize, channels_last, mode=None):
    """Return a function that trains on the batch with a given number.

    The images are (N, H, W, C) uint8. The step runs on PyTorch's default device, compiled in the
    given mode of torch.compile, if any. On a GPU the returned loss may not be computed yet.
    """
    device = torch.get_default_device()
    data = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
    partners_of = torch.from_numpy(partners_of).to(device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=device.type == "cuda")
    loss_of = torch.compile(model.loss, mode=mode) if mode else model.loss

    def batch(rows):
        x = data[rows].float() / 255
        return x.to(memory_format=torch.channels_last) if channels_last else x

    def step(number):
        start = number * batchsize % (len(data) - batchsize + 1)
        rows = torch.arange(start, start + batchsize)
        optimizer.zero_grad()
        loss = loss_of(batch(rows), batch(partners_of[rows]))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
