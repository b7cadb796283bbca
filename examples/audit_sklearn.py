"""Audit a scikit-learn classifier on real handwritten digits."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import confsim
from confsim.membership import membership_tables

images, labels = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
is_member = rng.random((16, len(labels))) < 0.5  # 16 models, each trained on a random half

probabilities = np.stack(
    [
        RandomForestClassifier(n_estimators=50, random_state=i)
        .fit(images[members], labels[members])
        .predict_proba(images)
        for i, members in enumerate(is_member)
    ]
)
smoothed = (50 * probabilities + 0.1) / (50 + 1.0)  # a forest votes: no probability of exactly 0

run = confsim.audit(
    is_member=is_member, label=labels, probabilities=smoothed, features=images, design="independent"
)
found = membership_tables(run)
attacks = found["attacks"].query("target == 'pooled'").set_index("attack")
print(attacks[["auc", "auc_low", "auc_high", "tpr_at_fpr_1pct"]].round(3))
print(*found.answers, sep="\n")
