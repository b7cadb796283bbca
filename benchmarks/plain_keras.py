"""The deep trial as a researcher would write it: a fresh Keras model, ``fit``, predicts, NumPy.

The peer of ``confsim-deep``: the same network, data, epochs and batch size, without its tricks.
"""

import argparse
import time

import numpy as np


def trial(
    architecture, images, labels, members, holdout, *, epochs, batch_size, seed, distances=True
):
    """Train one model and return softmax outputs and distances of every image."""
    import keras

    from confsim.deep.models import features_of

    keras.utils.set_random_seed(seed)
    mean = images[members].mean(axis=(0, 1, 2))
    deviation = images[members].std(axis=(0, 1, 2))
    x = ((images - mean) / deviation).astype(np.float32)
    model = architecture.build()
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x[members],
        labels[members],
        validation_data=None if holdout is None else (x[holdout], labels[holdout]),
        epochs=epochs,
        batch_size=batch_size,
        verbose=0,
    )
    if not distances:
        return None
    extractor = keras.Model(model.inputs, features_of(model))
    logits = model.predict(x, verbose=0)
    queries = extractor.predict(x, verbose=0)
    training = extractor.predict(x[members], verbose=0)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    training = training / np.linalg.norm(training, axis=1, keepdims=True)
    angles = np.arccos(np.clip(queries @ training.T, -1, 1)) / np.pi
    return logits, angles.min(axis=1)


def main(argv=None):
    """Run trials in a row on all cores; print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--trials", type=int, default=2)
    given = parser.parse_args(argv)

    from confsim.deep import datasets, design
    from confsim.deep.models import Architecture

    data = datasets.load(given.dataset, limit=given.limit)
    architecture = Architecture(given.model, data.image_shape, data.classes)
    holdout = design.holdout_rows(data.labels, data.groups, 0.1, 0)
    population = np.setdiff1d(np.arange(len(data.labels)), holdout)
    for number in range(given.trials):
        started = time.perf_counter()
        drawn = design.member_rows(data.labels[population], 0.5, "independent", 0, number)
        trial(
            architecture,
            data.images,
            data.labels,
            population[drawn],
            holdout,
            epochs=given.epochs,
            batch_size=given.batch_size,
            seed=number,
        )
        print(f"trial {number}: {time.perf_counter() - started:.2f} s", flush=True)


if __name__ == "__main__":
    main()
