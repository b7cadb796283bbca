"""Estimators as tasks: seeds, classes, the fixed space, tables, regressors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import confsim
from confsim.shadow.estimators import (
    EstimatorSource,
    EstimatorTask,
    _import,
    _seeded,
    check_estimator,
    fixed_space,
)
from confsim.shadow.tasks import TaskError

X, y = load_iris(return_X_y=True)
ROWS = np.arange(len(X))


def task(estimator, X=X, y=y, features=None):
    return EstimatorTask(
        estimator, {"X": X, "y": np.asarray(y), "ids": None, "groups": None, "features": features}
    )


def trained(made, members=ROWS[::2], seed=3):
    made.population()
    return made.train(members, seed, None)


class Stubborn(DecisionTreeClassifier):
    """Copies a parameter when it is made, which scikit-learn's ``clone`` refuses."""

    def __init__(self, columns=None, max_depth=None, random_state=None):
        super().__init__(max_depth=max_depth, random_state=random_state)
        self.columns = None if columns is None else list(columns)


class Counting(DecisionTreeClassifier):
    """Takes classes as numbers from 0 only, as XGBoost's classifier does."""

    __module__ = "xgboost.sklearn"

    def fit(self, X, y):
        assert np.array_equal(np.unique(y), np.arange(len(np.unique(y))))
        return super().fit(X, y)


class TestEstimators:
    @pytest.mark.parametrize("names", [["b", "c", "a"], [3, 9, 1], [True, False, True]])
    def test_classes_that_must_be_counted_from_0(self, names):
        """Text, numbers with gaps, and a class that no member has."""
        labels = np.array(names, dtype=object if names[0] == "b" else None)[y]
        made = task(Counting(), y=labels)
        classes = np.unique(labels.astype(str) if labels.dtype == object else labels)
        said = trained(made)(ROWS)["probabilities"]
        written = labels.astype(str) if labels.dtype == object else labels
        assert said.shape == (150, len(classes))
        assert (classes[said.argmax(axis=1)] == written).mean() > 0.9
        rows = ROWS[y != 1]
        alone = made.train(rows, 0, None)(rows)["probabilities"]
        assert (classes[alone.argmax(axis=1)] == written[rows]).all()

    def test_classes_that_are_counted_keep_their_type(self):
        seen = []

        class Seeing(Counting):
            def fit(self, X, y):
                seen.append(y.dtype)
                return super().fit(X, y)

        trained(task(Seeing(), y=(y > 0).astype(np.float32)))
        assert seen == [np.float32]

    def test_what_scikit_learn_cannot_clone(self):
        mine = Stubborn(["a", "b"], max_depth=2)
        said = trained(task(mine))(ROWS)
        assert said["probabilities"].shape == (150, 3)
        assert mine.random_state is None
        assert not hasattr(mine, "tree_")

    def test_a_column_of_labels(self):
        assert task(LogisticRegression(), y=y[:, None]).population()["label"].shape == (150,)

    def test_a_regressor_needs_finite_values(self):
        values = X[:, 0].copy()
        values[7] = np.nan
        with pytest.raises(TaskError, match="must be finite, but row 7 is not"):
            task(Ridge(), y=values).population()

    def test_every_random_state_is_set_and_each_to_its_own(self):
        nested = make_pipeline(StandardScaler(), BaggingClassifier(DecisionTreeClassifier()))
        found = _seeded(nested, 7).get_params(deep=True)
        states = {name: v for name, v in found.items() if name.endswith("random_state")}
        assert len(states) == len(set(states.values())) == 2
        assert _seeded(nested, 8).get_params(deep=True) != found
        assert all(type(value) is int and 0 <= value < 2**31 for value in states.values())

    def test_classifiers_give_probabilities_else_decisions(self):
        said = trained(task(LogisticRegression()))(ROWS)
        expected = LogisticRegression().fit(X[::2], y[::2]).predict_proba(X)
        assert np.array_equal(said["probabilities"], expected)
        said = trained(task(LinearSVC(random_state=0)))(ROWS)
        assert said["logits"].shape == (150, 3)

    def test_the_users_estimator_stays_as_it_was(self):
        mine = DecisionTreeClassifier()
        trained(task(mine))
        assert mine.random_state is None
        assert not hasattr(mine, "tree_")

    def test_a_class_without_members_has_its_column(self):
        said = trained(task(DecisionTreeClassifier()), members=ROWS[:100])(ROWS)
        assert said["probabilities"].shape == (150, 3)
        assert (said["probabilities"][:, 2] == 0).all()

    def test_a_regressor_gives_minus_the_squared_error(self):
        said = trained(task(Ridge(), y=X[:, 0]))(ROWS)
        expected = Ridge().fit(X[::2], X[::2, 0]).predict(X)
        assert np.allclose(said["statistic"], -((X[:, 0] - expected) ** 2))

    def test_text_labels_stay_text(self):
        names = np.array(["b", "c", "a"], dtype=object)[y]
        made = task(LogisticRegression(), y=names)
        assert made.population()["label"].tolist() == names.tolist()
        said = made.train(ROWS[::2], 0, None)(ROWS)["probabilities"]
        assert (np.array(["a", "b", "c"])[said.argmax(axis=1)] == names).mean() > 0.9

    @pytest.mark.parametrize(
        ("estimator", "message"),
        [(LogisticRegression, "must be an object, not a class"), (3, "it has no fit()")],
    )
    def test_what_is_no_estimator(self, estimator, message):
        with pytest.raises(TypeError, match=message.replace("(", r"\(").replace(")", r"\)")):
            check_estimator(estimator, "this")

    def test_an_unknown_parameter_names_the_one_that_was_meant(self):
        with pytest.raises(TaskError, match=r"parameter max_dept .* did you mean 'max_depth'"):
            task(DecisionTreeClassifier()).configure(max_dept=3)
        with pytest.raises(TaskError, match="has no DecisionTre: did you mean"):
            _import("sklearn.tree.DecisionTre")

    def test_lengths_that_differ(self, tmp_path):
        with pytest.raises(ValueError, match="y must have 150 rows as X, not 3"):
            EstimatorSource.of(LogisticRegression(), X, y[:3], tmp_path)
        with pytest.raises(TypeError, match="y is missing"):
            EstimatorSource.of(LogisticRegression(), X, None, tmp_path)

    def test_other_parameters_and_other_data_are_other_sources(self, tmp_path):
        made = {
            EstimatorSource.of(LogisticRegression(C=C), X + dx, y, tmp_path).sha256
            for C in (1, 2)
            for dx in (0, 1)
        }
        again = EstimatorSource.of(LogisticRegression(C=1), X + 0, y, tmp_path).sha256
        assert len(made) == 4
        assert again in made

    def test_a_run_from_a_table_of_pandas(self, tmp_path):
        table = pd.DataFrame(X, columns=list("abcd"))
        run = confsim.shadow.run(
            estimator=make_pipeline(StandardScaler(), LogisticRegression()),
            X=table,
            y=np.array(["x", "y", "z"])[y],
            trials=4,
            design="balanced",
            parameters={"logisticregression__C": 10.0},
            out=tmp_path / "run",
            workers=1,
        )
        assert set(run.population()["label_name"]) == {"x", "y", "z"}
        assert run.summary()["member_accuracy"].mean() > 0.9
        assert set(run.summary()["space"]) == {"fixed"}
        twice = run.population()
        equal = [tuple(row) for row in X]
        groups = twice["duplicate_group"]
        for i, row in enumerate(equal):
            assert groups[i] == groups[equal.index(row)]


class TestFixedSpace:
    def test_numbers_are_standardised_and_categories_one_hot(self):
        table = pd.DataFrame(
            {"n": [1.0, 2.0, np.nan, 3.0], "c": ["u", "v", "u", None], "k": [5, 5, 5, 5]}
        )
        found = fixed_space(table)
        assert found.shape == (4, 4)
        assert np.allclose(found[:, 0], np.array([-1, 0, 0, 1]) * np.sqrt(1.5))
        assert found[:, 1:3].tolist() == [[1, 0], [0, 1], [1, 0], [0, 0]]
        assert (found[:, 3] == 0).all()

    @pytest.mark.parametrize("kind", [pd.Series, lambda texts: np.array(texts, dtype=object)])
    def test_texts_have_none_and_equal_ones_are_duplicates(self, kind):
        texts = kind(["a text", "another", "a text", "a third"])
        assert fixed_space(texts) is None
        given = task(LogisticRegression(), X=texts, y=[0, 1, 0, 1]).population()
        assert "features" not in given
        assert given["duplicate_group"].tolist() == [0, 1, 0, 2]

    def test_a_space_that_is_given_makes_no_duplicates(self):
        given = task(LogisticRegression(), features=np.ones((150, 1))).population()
        assert (given["features"] == 1).all()
        assert len(set(given["duplicate_group"])) == len({tuple(row) for row in X})


class TestNamedEstimators:
    """What a command names: there is no place to encode a table, or to fill it in."""

    table = pd.DataFrame(
        {
            "age": [20.0, 30, 40, 50, np.nan, 70],
            "job": pd.Categorical(["cook", None, "nurse", "cook", "nurse", "cook"]),
        }
    )
    classes = np.array(["a", "b"] * 3, dtype=object)

    def made(self, folder, name, table):
        source = EstimatorSource.of(name, table, self.classes, folder)
        return source.load().owner

    def test_categories_are_zeros_and_ones(self, tmp_path):
        seen = self.made(tmp_path, "sklearn.ensemble.RandomForestClassifier", self.table)
        seen.population()
        expected = np.c_[self.table["age"], [[1, 0], [0, 0], [0, 1], [1, 0], [0, 1], [1, 0]]]
        np.testing.assert_array_equal(seen._rows(np.arange(6)), expected)
        assert seen.train(np.arange(6), 0, None)(np.arange(6))["probabilities"].shape == (6, 2)

    def test_similarity_is_measured_as_before(self, tmp_path):
        seen = self.made(tmp_path, "sklearn.ensemble.RandomForestClassifier", self.table)
        np.testing.assert_array_equal(seen.population()["features"], fixed_space(self.table))

    def test_one_that_takes_categories_gets_them(self, tmp_path):
        name = "sklearn.ensemble.HistGradientBoostingClassifier"
        assert self.made(tmp_path, name, self.table)._rows([0, 1]).equals(self.table.iloc[[0, 1]])

    def test_numbers_alone_stay_a_table(self, tmp_path):
        ages = self.table[["age"]].fillna(0)
        seen = self.made(tmp_path, "sklearn.linear_model.LogisticRegression", ages)
        assert seen._rows([0, 1]).equals(ages.iloc[[0, 1]])

    def test_a_missing_number_is_refused_before_any_trial(self, tmp_path):
        seen = self.made(tmp_path, "sklearn.linear_model.LogisticRegression", self.table)
        with pytest.raises(
            TaskError, match=r"column age must not be missing .* row 4 .*--drop age"
        ):
            seen.population()

    def test_dates_are_refused(self, tmp_path):
        dated = self.table.assign(born=pd.Timestamp("2000-01-01"))
        with pytest.raises(TaskError, match=r"column born holds dates.*--drop born"):
            self.made(tmp_path, "sklearn.linear_model.LogisticRegression", dated)


def test_rows_in_different_orders_are_refused(tmp_path):
    table, classes = pd.DataFrame(X), pd.Series(y)
    with pytest.raises(ValueError, match=r"y and X have the same index in different orders"):
        EstimatorSource.of(LogisticRegression(), table, classes[::-1], tmp_path)
    EstimatorSource.of(LogisticRegression(), table[::-1], classes[::-1], tmp_path)
