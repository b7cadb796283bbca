"""Shadow models of LightGBM on a table with numbers, categories and missing values.

python examples/shadow_boosting.py
"""

import sys

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier

import confsim
from confsim.membership import membership_tables

trials = int(sys.argv[1]) if len(sys.argv) > 1 else 32
rng = np.random.default_rng(0)
work = pd.Series(rng.choice(["office", "field", "home"], 1000)).astype("category")
age, hours = rng.integers(18, 80, 1000), rng.normal(38, 9, 1000)
X = pd.DataFrame({"age": age, "hours": hours, "work": work})
y = np.where(age + rng.normal(0, 15, 1000) + 10 * (work == "office") > 52, ">50K", "<=50K")
X.loc[::17, "hours"] = np.nan
model = LGBMClassifier(n_estimators=30, verbose=-1, n_jobs=1)
run = confsim.shadow.run(estimator=model, X=X, y=y, trials=trials, design="balanced")
attacks = membership_tables(run)["attacks"]
print(attacks[attacks["target"] == "mean"][["attack", "auc", "tpr_at_fpr_1pct"]].to_string())
