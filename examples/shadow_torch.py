"""A PyTorch training loop with checkpoints: confsim-shadow examples/shadow_torch.py --trials 32"""

import torch
from sklearn.datasets import load_digits

X, y = (torch.tensor(a) for a in load_digits(return_X_y=True))
X = X.float() / 16


def population():
    return {"label": y, "features": X, "images": (X * 255).byte().reshape(-1, 8, 8)}


def train(members, seed, context, epochs=20):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer, first = torch.optim.Adam(net.parameters(), 0.01), 0
    if (saved := context.scratch / "last.pt").exists():
        first, weights, state, random = torch.load(saved)
        net.load_state_dict(weights), optimizer.load_state_dict(state), torch.set_rng_state(random)
    for epoch in range(first, epochs):
        for rows in torch.tensor(members)[torch.randperm(len(members))].split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(X[rows]), y[rows]).backward()
            optimizer.step()
        state = (epoch + 1, net.state_dict(), optimizer.state_dict(), torch.get_rng_state())
        torch.save(state, saved.with_suffix(".part")), saved.with_suffix(".part").replace(saved)
        context.progress((epoch + 1) / epochs)
    return lambda rows: {"logits": net(X[rows]), "features": net[:2](X[rows])}
