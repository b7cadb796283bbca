"""A regression as a task file: confsim-shadow examples/shadow_regression.py --trials 32"""

from sklearn.datasets import load_diabetes
from sklearn.tree import DecisionTreeRegressor

X, y = load_diabetes(return_X_y=True)
SETTINGS = {"max_depth": 8}


def configure(max_depth):  # confsim-shadow ... --set max_depth=4
    SETTINGS["max_depth"] = max_depth


def population():
    return {"id": range(len(y)), "features": X}


def train(members, seed, context):
    tree = DecisionTreeRegressor(random_state=seed, **SETTINGS).fit(X[members], y[members])
    return lambda rows: {"statistic": -((tree.predict(X[rows]) - y[rows]) ** 2)}
