"""What an audit takes: the names of its columns, and what they mean."""

#: What an audit takes: an array of one model, or with a leading axis of models.
COLUMNS = {
    "is_member": "whether the example was trained on: 0 or 1",
    "label": "true class, from 0",
    "logits": "one number a class",
    "probabilities": "one number a class, adding up to 1",
    "confidence": "largest probability, in [0, 1]",
    "log_odds_true": "log p - log(1 - p) of the true class's probability p",
    "predicted": "predicted class",
    "features": "what similarity is measured by: embeddings, one row an example",
    "distance": "to the nearest training example other than itself, instead of features",
    "id": "the examples' numbers",
    "duplicate_group": "examples with the same number are duplicates of each other",
    "holdout_label": "true class of examples that no model was trained on",
    "holdout_logits": "their logits",
    "holdout_probabilities": "their probabilities",
    "holdout_log_odds_true": "their log-odds, instead of logits and labels",
}
