"""What the doctor of a run reads: its first views, and images without augmentation."""

import numpy as np

from byol_keras.monitoring.plain_images import take_plain_images
from byol_keras.monitoring.shortcuts import ShortcutReader, can_be_read

# The doctor reads the images of one step, but no more than this.
MOST_PROBE_IMAGES = 256


class Probe:
    """Fixed images of a run, read when the doctor asks for them.

    Args:
        run: `build.Run`.
        seed, pass_length: of the run.
    """

    def __init__(self, run, seed, pass_length):
        self.run = run
        self.order = {"seed": seed, "pass_length": pass_length}
        self._batches = None

    def views(self):
        """Both views of the run's first images, `[N, S, S, C]` each."""
        count = min(self.run.length.batch_size, MOST_PROBE_IMAGES)
        dataset = self.run.views.dataset(self.run.data, count, **self.order)
        # The other batches of this iterator save a second pipeline.
        self._batches = iter(dataset)
        return self._next_views()

    def shortcuts(self):
        """A `ShortcutReader` of images without augmentation, and of pairs of views.

        Returns:
            None if there are too few images, or if they are too small.
        """
        run = self.run
        plain = take_plain_images(
            run.data, run.views.shape(run.data), MOST_PROBE_IMAGES, self.order["seed"]
        )
        if not can_be_read(plain.images):
            return None
        return ShortcutReader(plain.images, self._pairs(), plain.files)

    def _pairs(self):
        """Both views of the images that follow those of `views`, each image once."""
        pairs = [self._next_views()]
        count = min(self.run.data.num_examples, MOST_PROBE_IMAGES)
        while (len(pairs) + 1) * len(pairs[0][0]) <= count:
            pairs.append(self._next_views())
        return [np.concatenate(view) for view in zip(*pairs, strict=True)]

    def _next_views(self):
        return self.run.model.views_of(next(self._batches))
