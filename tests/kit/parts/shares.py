"""The score that the shares of an `Evaluation` add up to."""


def score_of(shares):
    """Return the mean over K of the sum of what is right by the sum of what there is; 0/0 is left out.

    Args:
        shares: Float[N 2 K], see `kit.evaluation.Evaluation.shares`.
    """
    right, present = shares.double().sum(0)
    return float((right / present).nanmean())
