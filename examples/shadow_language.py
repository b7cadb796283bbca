"""A tiny language model trained on texts: confsim-shadow examples/shadow_language.py --trials 32"""

import random

import torch

words, draw = (
    ["the", "a", "cat", "dog", "sees", "hears", "likes", "old", "big", "and"],
    random.Random(0),
)
texts = [[draw.randrange(len(words)) for _ in range(12)] for _ in range(200)]
X = torch.tensor(texts)


def population():
    return {"examples": len(texts), "id": [" ".join(words[w] for w in t) for t in texts]}


def train(members, seed, context):
    from transformers import GPT2Config, GPT2LMHeadModel

    net = GPT2LMHeadModel(GPT2Config(len(words), 12, 32, 1, 2))  # random weights, no download
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        net(input_ids=X[members], labels=X[members]).loss.backward()
        optimizer.step()

    def predict(rows):  # mean log-likelihood per token
        log_p = net.eval()(input_ids=X[rows]).logits[:, :-1].log_softmax(-1)
        return {"statistic": log_p.gather(2, X[rows, 1:, None]).mean((1, 2))}

    return predict
