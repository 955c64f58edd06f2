"""The tensors of a model, divided into parts that are updated side by side."""


class Groups:
    """Parts of whole tensors, some of them together.

    Args:
        shapes: List of the tensors' shapes.
        groups: List of lists of ints, the indices of the tensors of each part,
            all of them once.
    """

    def __init__(self, shapes, groups):
        self._groups = groups
        self.shapes = [[tuple(shapes[i]) for i in group] for group in groups]

    def split(self, tensors):
        """Returns the list of the tensors of each part.

        Args:
            tensors: List of anything, one for each tensor.
        """
        return [[tensors[i] for i in group] for group in self._groups]

    def join(self, parts):
        """Returns the list of which these are the parts."""
        found = {
            i: tensor
            for group, part in zip(self._groups, parts, strict=True)
            for i, tensor in zip(group, part, strict=True)
        }
        return [found[i] for i in range(len(found))]
