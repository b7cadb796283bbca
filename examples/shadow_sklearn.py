"""Shadow models of a scikit-learn classifier on bundled data: one call, then the attacks.

python examples/shadow_sklearn.py
"""

import sys

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

import confsim
from confsim.membership import membership_tables

trials = int(sys.argv[1]) if len(sys.argv) > 1 else 32
X, y = load_digits(return_X_y=True)
run = confsim.shadow.run(
    estimator=RandomForestClassifier(50), X=X, y=y, trials=trials, votes=50, design="balanced"
)
attacks = membership_tables(run)["attacks"]
print(attacks[attacks["target"] == "mean"][["attack", "auc", "tpr_at_fpr_1pct"]].to_string())
