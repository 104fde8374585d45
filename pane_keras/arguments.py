"""What one call of a layer or operation is given: slots, constants and masks, by the names of its parameters."""

import inspect
from dataclasses import dataclass, replace
from functools import cache, cached_property

from keras import tree

from pane_keras.record import Slot


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call.

    Attributes:
        operation: The layer or operation that is called.
        args, kwargs: Its arguments, with a `Slot` where the graph has a tensor.
        masks: (args, kwargs) with Keras's mask where there is one, or None.
    """

    operation: object
    args: tuple
    kwargs: dict
    masks: tuple | None = None

    @cached_property
    def slots(self):
        """All slots, in the order in which `keras.tree.flatten` finds them."""
        return tuple(leaf for leaf in tree.flatten((self.args, self.kwargs)) if isinstance(leaf, Slot))

    @property
    def live(self):
        """The slots that something can excite."""
        return tuple(slot for slot in self.slots if not slot.held)

    @cached_property
    def data(self):
        """The slots of all arguments that are no masks."""
        if not self.kwargs and len(self.args) == 1:
            return self.slots
        given = [value for name, value in self._named.items() if name != "mask" and not name.endswith("_mask")]
        return tuple(leaf for leaf in tree.flatten(given) if isinstance(leaf, Slot))

    @property
    def inputs(self):
        """What a rule takes as `inputs`: the tensor, or the tensors, of the call."""
        first = self.args[0] if self.args else next(iter(self.kwargs.values()))
        if len(tree.flatten(first)) < len(self.data):
            return [slot.glance for slot in self.data]
        return tree.map_structure(lambda leaf: leaf.glance if isinstance(leaf, Slot) else leaf, first)

    def get(self, name, default=None):
        """Returns an argument by the name of its parameter, with slots for tensors."""
        return self._named.get(name, default)

    def value(self, name, default=None):
        """Returns an argument by the name of its parameter, with tensors for slots."""
        return values_of(self._named.get(name, default))

    def mask(self, name):
        """Returns the mask that Keras gives the operation for an argument, or None.

        It is the one passed as `mask` or `<name>_mask`. Else it is the one that hangs on the argument, which Keras
        looks up for `mask` where the call has one tensor argument, and for `<name>_mask` where it has several.
        """
        alone = sum(any(isinstance(leaf, Slot) for leaf in tree.flatten(value)) for value in self._named.values()) == 1
        own = f"{name}_mask"
        for given in ("mask", own):
            if self.value(given) is not None:
                return self.value(given)
        return self._named_masks.get(name) if self.takes("mask" if alone else own) else None

    @property
    def names(self):
        """The names of the parameters that were given."""
        return list(self._named)

    @cached_property
    def hung(self):
        """Keras's masks, by the index of the slot on whose tensor they hang."""
        if self.masks is None:
            return {}
        pairs = zip(tree.flatten((self.args, self.kwargs)), tree.flatten(self.masks))
        return {leaf.index: mask for leaf, mask in pairs if isinstance(leaf, Slot) and mask is not None}

    @property
    def masked(self):
        """Whether any argument has a mask."""
        return self.masks is not None or self.kwargs.get("mask") is not None

    def takes(self, name):
        """Whether the operation's `call` has a parameter of this name."""
        return name in _signature(type(self.operation)).parameters

    def function(self, of=None):
        """Returns the operation as a function of the values of some of its slots, the others being constants.

        Args:
            of: Slots; by default the live ones.
        """
        wanted = [slot.index for slot in (self.live if of is None else of)]

        def call(*values):
            left = list(zip(wanted, values))

            def fill(leaf):
                if not isinstance(leaf, Slot):
                    return leaf
                # One slot may stand in two places.
                at = next((k for k, (index, _) in enumerate(left) if index == leaf.index), None)
                return leaf.value if at is None else left.pop(at)[1]

            args, kwargs = tree.map_structure(fill, (self.args, self.kwargs))
            return self.operation.call(*args, **kwargs)

        return call

    def mapped(self, function):
        """Returns the same arguments with every slot replaced by `function(slot)`."""
        args, kwargs = tree.map_structure(lambda a: function(a) if isinstance(a, Slot) else a, (self.args, self.kwargs))
        return replace(self, args=args, kwargs=kwargs)

    @cached_property
    def _named(self):
        return _bound(self.operation, self.args, self.kwargs)

    @cached_property
    def _named_masks(self):
        return {} if self.masks is None else _bound(self.operation, *self.masks)


def is_live(value):
    """Returns whether an argument is a slot that something can excite."""
    return isinstance(value, Slot) and not value.held


def values_of(structure):
    """Returns a structure with the values of its slots."""
    return tree.map_structure(lambda leaf: leaf.value if isinstance(leaf, Slot) else leaf, structure)


def _bound(operation, args, kwargs):
    return dict(_signature(type(operation)).bind(operation, *args, **kwargs).arguments)


@cache
def _signature(cls):
    return inspect.signature(cls.call)
