"""The score that the terms of an `Evaluation` add up to."""


def score_of(score_terms):
    """Return the mean over K of the sum of what is right by the sum of what there is; 0/0 is left out.

    Args:
        score_terms: Float[N 2 K], see `kit.evaluation.Evaluation.score_terms`.
    """
    right, present = score_terms.double().sum(0)
    return float((right / present).nanmean())
