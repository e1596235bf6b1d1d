"""The GMVAE of docs/MODELS.md in plain MLX, written from that page alone, for MNIST and the digits.

python examples/plain_mlx.py digits --seed 0
python examples/plain_mlx.py mnist --data DIR --seed 0    # DIR holds the four IDX files

To read and to change. `train.py` does the same, faster, for any images. Labels are used in the last
line only.
"""

import argparse
import gzip
import math
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers, utils
from PIL import Image
from scipy.optimize import linear_sum_assignment
from sklearn import cluster, datasets, decomposition, metrics, neighbors

K, D, M, HEADS, COPIES = 10, 8, 8, 20, 3
# By side: padding, channels of encoder and of q(y|x), values before its dense layer
SIZES = {28: (2, (1, 16, 32, 64), (1, 32, 64), 3136), 8: (0, (1, 64), (1, 32), 2048)}


def load(name: str, folder: str) -> tuple[np.ndarray, ...]:  # training and test images, test labels
    if name == "digits":
        x, y = datasets.load_digits(return_X_y=True)
        x = np.rint(x * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
        test, train = np.split(np.random.default_rng(0).permutation(1797), [359])
        return x[np.sort(train)], x[test], y[test]
    stems = ("train-images", "t10k-images", "t10k-labels")
    files = [next(Path(folder).glob(stem + "*")) for stem in stems]
    raw = [(gzip.open if f.suffix == ".gz" else open)(f, "rb").read() for f in files]
    train, test, y = (np.frombuffer(r, np.uint8) for r in raw)
    return train[16:].reshape(-1, 28, 28), test[16:].reshape(-1, 28, 28), y[8:]


def nearest(x: np.ndarray) -> np.ndarray:  # section 3
    x, side, cells = x / np.float32(255), x.shape[1], round(x.shape[1] / 4)
    dy, dx = np.gradient(x, axis=(1, 2))
    length, position = np.hypot(dx, dy), np.arctan2(dy, dx) * 8 / (2 * np.pi)
    cell = np.eye(cells, dtype=np.float32)[np.arange(side) * cells // side]
    shares = (np.maximum(1 - np.abs((position - o + 4) % 8 - 4), 0) for o in range(8))
    hog = np.stack([cell.T @ (s * length) @ cell for s in shares], -1).reshape(len(x), -1)
    hog = np.sqrt(hog / np.maximum(hog.sum(1, keepdims=True), 1e-12))
    blocks = (x.reshape(len(x), -1), 50), (hog, 80)
    pcs = [decomposition.PCA(min(n, b.shape[1])).fit_transform(b) for b, n in blocks]
    return knn(np.concatenate([p / np.sqrt(p.var(0).sum()) for p in pcs], 1))


def knn(d: np.ndarray) -> np.ndarray:
    return neighbors.NearestNeighbors(n_neighbors=10, algorithm="brute").fit(d).kneighbors()[1]


def augment(x: mx.array, strokes: bool) -> mx.array:  # section 4
    (n, s, _), u = x.shape, mx.random.uniform(-1, 1, (9, len(x), 1, 1))
    if strokes:
        p, plain = mx.pad(x, [(0, 0), (1, 1), (1, 1)], "edge"), x
        four = mx.stack([p[:, :-2, 1:-1], p[:, 2:, 1:-1], p[:, 1:-1, :-2], p[:, 1:-1, 2:]])
        upper, lower = mx.maximum(x, four.max(0)), mx.minimum(x, four.min(0))
        x = x + mx.maximum(u[6], 0) * (upper - x) + mx.minimum(u[6], 0) * (x - lower)
        x = mx.where((u[7] + 1) / 2 < 0.15, upper - plain, x)  # the outline, on a dark ground
        x = mx.where((u[8] + 1) / 2 < 0.2, (four.sum(0) + 4 * plain) / 8, x)
    a, tan = math.radians(15) * u[0], mx.tan(math.radians(12) * u[1])
    sy, sx, sin, cos = 1 + 0.15 * u[2], 1 + 0.15 * u[3], mx.sin(a), mx.cos(a)
    c, move = mx.arange(s) - (s - 1) / 2, (s - 1) / 2 + 2.5 / 28 * s * u[4:6]
    row = sy * (cos - sin * tan) * c[:, None] - sy * sin * c + move[0]
    col = sx * (sin + cos * tan) * c[:, None] + sx * cos * c + move[1]
    row, col = mx.clip(row, 0, s - 1), mx.clip(col, 0, s - 1)
    r0, c0 = mx.minimum(mx.floor(row), s - 2), mx.minimum(mx.floor(col), s - 2)
    at, dr, dc = (r0 * s + c0).astype(mx.int32).reshape(n, -1), row - r0, col - c0
    p = [mx.take_along_axis(x.reshape(n, -1), at + k, 1).reshape(n, s, s) for k in (0, 1, s, s + 1)]
    return (1 - dr) * ((1 - dc) * p[0] + dc * p[1]) + dr * ((1 - dc) * p[2] + dc * p[3])


class GMVAE(nn.Module):  # section 2
    def __init__(self, side: int, subs: int):
        super().__init__()
        (pad, ch, ch_y, flat), leaky = SIZES[side], nn.LeakyReLU(0.01)
        down = [(nn.Conv2d(i, o, 4, 2, 1 + pad * (i == 1)), leaky) for i, o in pairwise(ch)]
        up = [(leaky, nn.Upsample(2), nn.Conv2d(o, i, 3, 1, 1)) for i, o in pairwise(ch)][::-1]
        trunk = [(nn.Conv2d(i, o, 4, 2, 1), leaky) for i, o in pairwise(ch_y)]
        self.down, self.up, self.trunk = (nn.Sequential(*sum(b, ())) for b in (down, up, trunk))
        for conv in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            a, conv.bias = math.sqrt(6 / math.prod(conv.weight.shape[1:])), mx.zeros_like(conv.bias)
            conv.weight = mx.random.uniform(-a, a, conv.weight.shape)
        self.z, self.w = nn.Linear(1024, 2 * D), nn.Linear(1024, 2 * M)
        means, last = mx.random.normal((K, D)), nn.Linear(128, K * 2 * D)
        last.bias = mx.concatenate([means, mx.zeros((K, D))], 1).flatten()
        self.prior, self.grow = nn.Sequential(nn.Linear(M, 128), leaky, last), nn.Linear(D, 1024)
        self.dense = nn.Sequential(nn.Linear(flat, 128), nn.BatchNorm(128), nn.ReLU())
        self.heads, self.over = nn.Linear(128, HEADS * K), nn.Linear(128, COPIES * subs)
        self.heads.bias, self.over.bias = mx.zeros(HEADS * K), mx.zeros(COPIES * subs)
        eye, size = Image.fromarray(np.eye(side, dtype=np.float32)), (side, max(16, side))
        self._enlarge = mx.array(np.asarray(eye.resize(size, Image.Resampling.BICUBIC)))

    def classify(self, x: mx.array, strokes: bool | None = None) -> list[mx.array]:
        x = mx.clip(self._enlarge @ x @ self._enlarge.T, 0, 1)  # 28x28 stay as they are
        x = x if strokes is None else augment(x, strokes)
        f = self.dense(self.trunk(x[..., None]).reshape(len(x), -1))
        logits = self.heads(f).reshape(-1, HEADS, K), self.over(f).reshape(len(x), COPIES, -1)
        return [*(nn.log_softmax(g) for g in logits), f]  # log q of all heads, of all copies


def normal(h: mx.array) -> tuple[mx.array, mx.array, mx.array]:  # mean, variance, one sample
    mean, variance = mx.split(h, 2, -1)
    variance = mx.exp(mx.clip(variance, -8, 6))
    return mean, variance, mean + mx.sqrt(variance) * mx.random.normal(mean.shape)


def pair_loss(log_q: mx.array, log_p: mx.array | float) -> mx.array:  # of each head
    mean, a, b = mx.exp(log_q).mean(0), *mx.split(log_q, 2)
    imbalance = (mean * (mx.log(mx.maximum(mean, 1e-12)) - log_p)).sum(-1)
    return -mx.logsumexp(a + b, -1).mean(0) + 2 * imbalance - math.log(log_q.shape[-1])


def match(a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray]:  # share that agrees, numbers
    count = metrics.confusion_matrix(a, b, labels=range(K))
    best = linear_sum_assignment(count, maximize=True)
    return count[best].sum() / len(a), best[1]


def merge(q: np.ndarray, own: np.ndarray, graph: np.ndarray) -> tuple[str, mx.array, mx.array]:
    a = q.T @ q[graph].sum(1)  # section 6; returns the next phase, G and log p
    a = (a + a.T + 1e-9) / (a + a.T + 1e-9).sum()

    def conductance(g: np.ndarray, power: float = 0) -> np.ndarray:
        b, v = g.T @ a @ g, g.T @ a.sum(0)
        phi = b / np.minimum.outer(v, v) / np.maximum.outer(v, v) ** power
        return np.where(np.eye(len(b)), -1, phi)

    how = {"affinity": "precomputed", "assign_labels": "cluster_qr", "random_state": 0}
    spectral = np.eye(K)[cluster.SpectralClustering(K, **how).fit_predict(a)]
    g = np.eye(len(a))
    while g.shape[1] > K:
        i, j = np.divmod(conductance(g, 0.1).argmax(), g.shape[1])
        g[:, i] += g[:, j]
        g = np.delete(g, j, 1)
    g = g if conductance(spectral).max() > max(0.16, conductance(g).max()) else spectral
    agree, order = match(g[q.argmax(1)].argmax(1), own)
    g, within = g[:, np.argsort(order)], np.trace(g.T @ a @ g)
    phase = "refine" if 1 - agree <= 0.5 / K else "doubted" if within < 0.8 else "distil"
    print(f"merge: {agree:.1%} of the images agree, {within:.2f} of the affinity within clusters")
    log_p = np.log(np.maximum(1e-6, (q @ g).mean(0)))
    return phase, mx.array(g, mx.float32), mx.array(log_p, mx.float32)


def train(images: np.ndarray, test: np.ndarray, labels: np.ndarray, seed: int) -> None:
    (n, side, _), graph = images.shape, nearest(images)
    batch = min(256, 2 ** int(math.log2(max(32, n // 20))))
    steps, subs, cut = n // batch, min(5 * K, n // 10), slice(SIZES[side][0], SIZES[side][0] + side)
    wanted = math.ceil((1600 if batch == 256 or side < 16 else 3200) / steps)
    epochs = max(10, min(wanted, 500, 2**30 // (n * side * side)))
    mx.random.seed(seed)
    model, judge = GMVAE(side, subs), GMVAE(side, subs).eval()
    adam = optimizers.Adam(0.001, bias_correction=True)
    adam.init(model.trainable_parameters())
    run = {"heads": mx.zeros(HEADS), "over": mx.zeros(COPIES)}  # the running losses
    run |= {"best": mx.array(0), "copy": mx.array(0)}  # the chosen head and copy
    run |= {"g": mx.zeros((subs, K)), "log_p": mx.zeros(K)}
    state = [model.state, adam.state, run, mx.random.state]

    def loss(x: mx.array, partner: mx.array, t: mx.array, phase: str) -> tuple[mx.array, ...]:
        h = model.down(x[..., None]).reshape(batch, -1)
        (mz, vz, z), (mw, vw, w) = normal(model.z(h)[:, None]), normal(model.w(h))
        log_q = mx.stop_gradient(model.classify(x)[0][:, run["best"]])
        y = mx.random.randint(0, K, (max(1, batch // 4), 1))  # components of the sample term
        w = mx.concatenate([w, mx.random.normal((len(y), M))])
        mp, vp, drawn = normal(model.prior(w).reshape(-1, K, 2 * D))
        z = mx.concatenate([z, mx.take_along_axis(drawn[batch:], y[..., None], 1)])
        logits = model.up(model.grow(z).reshape(-1, 4, 4, 64))[:, cut, cut, 0]
        mp, vp, own = mp[:batch], vp[:batch], logits[:batch]
        kl_z = 0.5 * ((vz + (mz - mp) ** 2) / vp - 1 - mx.log(vz / vp)).sum(-1)
        kl_w = 0.5 * (vw + mw**2 - 1 - mx.log(vw)).sum(-1)
        bound = (nn.softplus(own) - x * own).sum((1, 2)) + kl_w + math.log(K)
        bound += (mx.exp(log_q) * (kl_z + log_q)).sum(-1)
        judge.update(utils.tree_map(mx.stop_gradient, model.parameters()))
        seen = judge.classify(mx.sigmoid(logits[batch:]))[0][:, run["best"]]
        total = bound.mean() - 3 * mx.take_along_axis(seen, y, 1).mean()
        heads, over, _ = model.classify(mx.concatenate([x, partner]), phase == "overcluster")
        pair, sub = pair_loss(heads, -math.log(K)), pair_loss(over, -math.log(subs))
        if phase != "distil":
            return total + pair.mean() + (sub.mean() if phase == "overcluster" else 0), pair, sub
        q, c = heads[:, run["best"]], mx.stop_gradient(mx.exp(over[:, run["copy"]]) @ run["g"])
        pseudo = -(mx.roll(c, batch, 0) * q).sum(1).mean()  # the target is the partner's cluster
        return total + t * (sub.mean() + pseudo) + (1 - t) * pair_loss(q, run["log_p"]), pair, sub

    def step(x: mx.array, partner: mx.array, t: mx.array, phase: str) -> mx.array:
        (value, pair, sub), grads = nn.value_and_grad(model, loss)(x / 255, partner / 255, t, phase)
        adam.update(model, grads)
        run["heads"] = 0.99 * run["heads"] + 0.01 * pair
        run["over"] = 0.99 * run["over"] + 0.01 * sub
        if phase in ("overcluster", "doubted"):  # otherwise the chosen head is frozen
            better = run["heads"].min() < run["heads"][run["best"]] - 0.01
            run["best"] = mx.where(better, run["heads"].argmin(), run["best"]).astype(mx.int32)
        return value

    def evaluate(x: np.ndarray) -> list[np.ndarray]:  # log q of the chosen head and copy, features
        judge.update(model.parameters())
        parts = [judge.classify(mx.array(p) / 255) for p in np.array_split(x, len(x) // 300)]
        chosen = enumerate((run["best"], run["copy"], slice(None)))
        return [np.concatenate([p[i][:, c] for p in parts]) for i, c in chosen]

    fast, phase, merged, found = mx.compile(step, state, state), "overcluster", 0, 0
    for e in range(epochs):
        due = (e >= 0.4 * epochs) + (e >= 0.6 * epochs)
        if due > found and n <= 20_000:  # neighbours in what is learned by now
            f = evaluate(images)[2]
            f = f - f.mean(0)
            graph, found = knn(f / np.linalg.norm(f, axis=1, keepdims=True)), due
        if phase == "overcluster" and e >= 0.4 * epochs:
            merged, run["copy"] = e, run["over"].argmin()
            own, over, _ = evaluate(images)
            phase, run["g"], run["log_p"] = merge(np.exp(over), own.argmax(1), graph)
        phase = "refine" if phase == "doubted" and e >= 0.6 * epochs else phase
        rng, total = np.random.default_rng([seed, e]), 0.0
        order, own, pick = rng.permutation(n), np.arange(n), rng.integers(0, 10, n)
        partner = np.where(rng.random(n) < 0.3, own, graph[own, pick])
        for s in range(steps):
            i, now = order[s * batch : (s + 1) * batch], e + s / steps
            adam.learning_rate = 0.001 * (1 + math.cos(math.pi * now / epochs)) / 2
            t = mx.array(max(0.0, 1 - (now - merged) / (0.2 * epochs)))
            value = fast(mx.array(images[i]), mx.array(images[partner[i]]), t, phase)
            mx.eval(state, value)
            total += value.item() / steps
        print(f"epoch {e + 1} of {epochs}, {phase}: loss {total:.3f}", flush=True)
    print(f"test accuracy {match(evaluate(test)[0].argmax(1), labels)[0]:.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["digits", "mnist"])
    parser.add_argument("--data", default="data", help="folder of MNIST's files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(*load(args.name, args.data), args.seed)
