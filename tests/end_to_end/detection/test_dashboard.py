from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_pictures_and_curves_of_a_tiny_run(tiny_run):
    tags = EventAccumulator(str(tiny_run)).Reload().Tags()
    samples = {"samples/first_batch", "samples/predictions", "samples/worst"}
    charts = {"precision_recall", "confidence", "confusion", "average_precision"}
    pictures = samples | {f"validation/{name}" for name in charts}
    assert pictures | {"data/labels", "data/box_sizes", "data/box_places"} <= set(tags["images"])
