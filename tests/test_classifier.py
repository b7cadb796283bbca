"""The scikit-learn face of the linear program."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from confsim.linear.classifier import LinearBinaryClassifier

ESTIMATORS = [
    LinearBinaryClassifier(),
    LinearBinaryClassifier(solver="direct"),
    LinearBinaryClassifier(objective="margin"),
    LinearBinaryClassifier(objective="margin", norm="linf", C=10.0),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_conformance(estimator, check):
    check(estimator)
