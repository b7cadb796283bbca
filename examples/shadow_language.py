"""A tiny language model trained on texts: confsim-shadow examples/shadow_language.py --trials 32"""

import torch

WORDS, LENGTH = 20, 12
texts = torch.randint(WORDS, (200, LENGTH), generator=torch.Generator().manual_seed(0))


def population():
    return {"examples": len(texts)}  # no classes: predict() gives a statistic


def train(members, seed, context):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    sizes = {"vocab_size": WORDS, "n_positions": LENGTH, "n_embd": 32, "n_layer": 1, "n_head": 2}
    net = GPT2LMHeadModel(GPT2Config(**sizes))  # random weights, no download
    optimizer, epochs = torch.optim.Adam(net.parameters(), 0.01), 40
    for epoch in range(epochs):
        optimizer.zero_grad()
        net(input_ids=texts[members], labels=texts[members]).loss.backward()
        optimizer.step()
        context.progress((epoch + 1) / epochs)

    def predict(rows):  # mean log-likelihood per token
        log_p = net.eval()(input_ids=texts[rows]).logits[:, :-1].log_softmax(-1)
        return {"statistic": log_p.gather(2, texts[rows, 1:, None]).mean((1, 2))}

    return predict
